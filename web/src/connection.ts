// Where the page stands with its master. Pure: the runner in live.svelte.ts tells what happened and does
// what the phase asks for.

export type Phase =
  /** Nothing was shown yet. */
  | { name: 'starting' }
  | { name: 'signed_out'; message: string }
  /** Facts arrive. */
  | { name: 'live' }
  /** What is shown is of before `since`. `retryAt` is when the next attempt begins. */
  | { name: 'lost'; since: number; attempt: number; retryAt: number };

export type Happening =
  | { name: 'read' }
  | { name: 'unreachable' }
  | { name: 'unauthorized'; message: string };

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

/** `random` is in [0, 1): pages that lost the same master do not come back all at once. */
export function step(phase: Phase, now: number, what: Happening, random: number): Phase {
  switch (what.name) {
    case 'read':
      return { name: 'live' };
    case 'unauthorized':
      return { name: 'signed_out', message: what.message };
    case 'unreachable': {
      const attempt = phase.name === 'lost' ? phase.attempt + 1 : 1;
      const since = phase.name === 'lost' ? phase.since : now;
      return { name: 'lost', since, attempt, retryAt: now + wait(attempt, random) };
    }
  }
}

/** Doubles from half a second to ten, less up to a third. */
export function wait(attempt: number, random: number): number {
  const full = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(attempt - 1, 10));
  return Math.round(full * (1 - random / 3));
}
