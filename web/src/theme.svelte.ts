// Light, dark, or what the system says. Kept in this browser alone.

export type Theme = 'system' | 'light' | 'dark';

const KEY = 'drumline.theme';
const NEXT: Record<Theme, Theme> = { system: 'light', light: 'dark', dark: 'system' };

class Choice {
  value = $state<Theme>('system');

  start(): void {
    try {
      const kept = localStorage.getItem(KEY);
      if (kept === 'light' || kept === 'dark') this.value = kept;
    } catch {
      // Storage may be off; the system's choice then.
    }
    this.#show();
  }

  next(): void {
    this.value = NEXT[this.value];
    try {
      localStorage.setItem(KEY, this.value);
    } catch {
      // Good for this visit.
    }
    this.#show();
  }

  #show(): void {
    document.documentElement.dataset.theme = this.value;
  }
}

export const theme = new Choice();
