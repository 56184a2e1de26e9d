// @ts-check

/** How long what the user does in a take waits for the take's next player: a busy page needs this long to show one. */
export const HAND_OVER_MS = 3000;
