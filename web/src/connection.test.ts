import { expect, test } from 'vitest';

import { step, wait, type Phase } from './connection';

test('the time of the loss stays while attempts go on', () => {
  let phase: Phase = { name: 'live' };
  phase = step(phase, 1_000, { name: 'unreachable' }, 0);
  expect(phase).toEqual({ name: 'lost', since: 1_000, attempt: 1, retryAt: 1_500 });
  phase = step(phase, 1_600, { name: 'unreachable' }, 0);
  expect(phase).toEqual({ name: 'lost', since: 1_000, attempt: 2, retryAt: 2_600 });
  phase = step(phase, 3_000, { name: 'read' }, 0);
  expect(phase).toEqual({ name: 'live' });
  expect(step(phase, 9_000, { name: 'unreachable' }, 0)).toMatchObject({ since: 9_000, attempt: 1 });
});

test('a session that is over asks for a token, from any phase', () => {
  const phases: Phase[] = [
    { name: 'starting' },
    { name: 'live' },
    { name: 'lost', since: 0, attempt: 4, retryAt: 1 },
  ];
  for (const phase of phases) {
    const next = step(phase, 1, { name: 'unauthorized', message: 'the session is over' }, 0);
    expect(next).toEqual({ name: 'signed_out', message: 'the session is over' });
  }
});

test('waits grow to ten seconds and spread', () => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 500].map((attempt) => wait(attempt, 0));
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
  expect(wait(500, 0.999)).toBeGreaterThan(6_600);
  expect(wait(500, 0.999)).toBeLessThan(6_700);
});
