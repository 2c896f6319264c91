/** Times one answer as the reader sees it. Times are milliseconds of performance.now(). */
export class Meter {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.sent = now();
    this.first = null;
    this.last = null;
    this.pieces = 0;
  }

  /** A piece of text came. A piece is a token as long as no character needs several. */
  piece() {
    this.last = this.now();
    this.first ??= this.last;
    this.pieces += 1;
  }

  /** Seconds from sending to the first piece; null before it. */
  get firstToken() {
    return this.first === null ? null : (this.first - this.sent) / 1000;
  }

  /** Pieces per second after the first one; null while there are too few to tell. */
  get rate() {
    const seconds = (this.last - this.first) / 1000;
    return this.pieces > 1 && seconds > 0 ? (this.pieces - 1) / seconds : null;
  }

  snapshot() {
    return { firstToken: this.firstToken, rate: this.rate, pieces: this.pieces };
  }
}
