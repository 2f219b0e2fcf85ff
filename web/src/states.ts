// States in words and in tones. A state that this page does not know is shown as it is.

export type Tone = 'go' | 'good' | 'bad' | 'warn' | 'quiet';

const TONES: Record<string, Tone> = {
  waiting: 'quiet',
  starting: 'quiet',
  running: 'go',
  succeeded: 'good',
  failed: 'bad',
  cancelled: 'quiet',
  alive: 'good',
  draining: 'warn',
  set_aside: 'warn',
  left: 'quiet',
  lost: 'bad',
  paused: 'quiet',
  finished: 'good',
  failing: 'bad',
};

export function toneOf(state: string): Tone {
  return TONES[state] ?? 'quiet';
}

export function wordOf(state: string): string {
  return state.replaceAll('_', ' ');
}
