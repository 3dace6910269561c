// The last minutes of a few figures, for the plots: one row a second, gaps where nothing was heard.

export interface Sample {
  decode: number;
  prefill: number;
  active: number;
  firstToken: number | null;
  memory: number;
  cpu: number;
}

export const SPAN_S = 300;

export type Column = keyof Sample;

export class Series {
  private times: number[] = [];
  private rows: (Sample | null)[] = [];

  /** What holds at `at` (milliseconds). A second sample within a second takes the place of the first. */
  add(at: number, sample: Sample): void {
    const second = Math.floor(at / 1000);
    const last = this.times[this.times.length - 1];
    if (last !== undefined && second < last) return;
    if (second === last) {
      const before = this.rows[this.rows.length - 1];
      const firstToken = sample.firstToken ?? before?.firstToken ?? null;
      this.rows[this.rows.length - 1] = { ...sample, firstToken };
    } else {
      // The server speaks every three seconds at least; a longer silence is a gap.
      if (last !== undefined && second - last > 6) {
        this.times.push(last + 1);
        this.rows.push(null);
      }
      this.times.push(second);
      this.rows.push(sample);
    }
    while ((this.times[0] ?? second) < second - SPAN_S - 5) {
      this.times.shift();
      this.rows.shift();
    }
  }

  get length(): number {
    return this.times.length;
  }

  /** Seconds, and the values of each column. */
  columns(...names: Column[]): [number[], ...(number | null)[][]] {
    return [this.times.slice(), ...names.map((name) => this.rows.map((row) => row?.[name] ?? null))];
  }
}
