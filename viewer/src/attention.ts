/** How long somebody looked at a cell: the time since it was chosen, without long pauses. */

const PAUSE_MS = 60_000;

export class Attention {
  private total = 0;
  private last: number;

  constructor(private readonly now: () => number = () => performance.now()) {
    this.last = now();
  }

  restart(): void {
    this.total = 0;
    this.last = this.now();
  }

  /** Somebody moved, clicked or pressed a key. */
  active(): void {
    const now = this.now();
    if (now - this.last <= PAUSE_MS) this.total += now - this.last;
    this.last = now;
  }

  /** Seconds since the start, to a tenth. */
  seconds(): number {
    this.active();
    return Math.round(this.total / 100) / 10;
  }
}
