"""`longtake osc`: messages of Open Sound Control as requests to a run."""
