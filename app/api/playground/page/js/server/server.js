/** Watches what the server is up to, for as long as it is not ready. */

const AGAIN_SECONDS = 1.5;

/** @typedef {"checking"|"loading"|"ready"|"failed"|"unavailable"|"unreachable"|"offline"} State */

export class Server extends EventTarget {
  constructor() {
    super();
    /** @type {State} */
    this.state = "checking";
    /** @type {string|null} */
    this.model = null;
    this.detail = "";
    this.progress = 0;
    this.watching = false;
    addEventListener("online", () => this.watch());
    addEventListener("offline", () => this.become("offline", {}));
  }

  /** Asks until the server is ready. Harmless when it already asks. */
  async watch() {
    if (this.watching) return;
    this.watching = true;
    try {
      for (;;) {
        const wait = await this.look();
        if (wait === null) return;
        await new Promise((resolve) => setTimeout(resolve, wait * 1000));
      }
    } finally {
      this.watching = false;
    }
  }

  /** Settles when the server is ready, or `signal` aborts. @param {AbortSignal} signal */
  ready(signal) {
    return this.until(() => this.state === "ready", signal);
  }

  /** Settles after the first look, which tells the model's name, or when `signal` aborts. @param {AbortSignal} signal */
  known(signal) {
    return this.until(() => this.state !== "checking", signal);
  }

  /** Leaves no listener behind: every question waits here. @param {() => boolean} reached @param {AbortSignal} signal */
  until(reached, signal) {
    return new Promise((resolve) => {
      const look = () => {
        if (!reached() && !signal.aborted) return;
        this.removeEventListener("change", look);
        signal.removeEventListener("abort", look);
        resolve(undefined);
      };
      this.addEventListener("change", look);
      signal.addEventListener("abort", look);
      look();
    });
  }

  /** One look. Returns the seconds to wait for the next, null when none is needed. */
  async look() {
    if (!navigator.onLine) {
      this.become("offline", {});
      return null; // the "online" event looks again
    }
    try {
      const startup = await probe("startupz");
      if (startup.ok) return await this.lookAtReadiness();
      const { phase, progress, detail } = startup.body;
      if (typeof phase !== "string")
        this.become("unreachable", { detail: "The app does not answer; it may be starting again." });
      else this.become(phase === "failed" ? "failed" : "loading", { progress, detail: detail || phase });
      return startup.retryAfter;
    } catch {
      this.become(navigator.onLine ? "unreachable" : "offline", {});
      return navigator.onLine ? 2 * AGAIN_SECONDS : null;
    }
  }

  async lookAtReadiness() {
    const readiness = await probe("readyz");
    if (!readiness.ok) {
      this.become("unavailable", { detail: String(readiness.body.reason ?? "") });
      return readiness.retryAfter;
    }
    this.model = String(readiness.body.model ?? "");
    this.become("ready", {});
    return null;
  }

  /** @param {State} state @param {{progress?: unknown, detail?: unknown}} more */
  become(state, { progress, detail }) {
    this.state = state;
    this.progress = typeof progress === "number" ? progress : 0;
    this.detail = typeof detail === "string" ? detail : "";
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {string} name */
async function probe(name) {
  const response = await fetch(new URL(name, document.baseURI), { cache: "no-store" });
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return {
    ok: response.ok,
    body: (await response.json().catch(() => null)) ?? {},
    retryAfter: Number.isNaN(seconds) ? AGAIN_SECONDS : Math.min(Math.max(seconds, 1), 60),
  };
}
