// Where pictures come from: the report's own text, a finished run at a moment, or the stream of a live one.
(() => {
  "use strict";
  const paceline = (window.paceline = window.paceline || {});
  const SILENCE_S = 12;
  const LONGEST_WAIT_S = 15;

  const ask = async (path) => {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    const told = await answer.json().catch(() => null);
    if (!answer.ok) throw new Error((told && typeof told.error === "string" && told.error) || `it answered ${answer.status}`);
    return told;
  };

  // Follows the stream; when it breaks, tries again after 1, 2, 4, … seconds, and says so.
  class Stream {
    constructor(take, tell) {
      Object.assign(this, { take, tell, tries: 0, why: "", events: null, heard: performance.now() });
      this.open();
      // A stream can be silent without being closed: then the same is asked for.
      window.setInterval(() => this.check(), 3000);
    }

    open() {
      this.events = new EventSource("events");
      this.events.addEventListener("picture", (event) => this.hear(JSON.parse(event.data)));
      this.events.addEventListener("ended", (event) => this.end(JSON.parse(event.data).error));
      this.events.addEventListener("error", () => this.lose());
    }

    hear(picture) {
      this.tries = 0;
      this.why = "";
      this.heard = performance.now();
      this.tell("live");
      this.take(picture);
    }

    // The watch itself is over: the monitor says why, and may be started again.
    end(why) {
      this.lose();
      this.why = why;
    }

    async check() {
      if (!this.events || performance.now() - this.heard < SILENCE_S * 1000) return;
      try {
        this.hear(await ask("api/picture"));
      } catch {
        this.lose();
      }
    }

    lose() {
      if (!this.events) return;
      this.events.close();
      this.events = null;
      const wait = Math.min(LONGEST_WAIT_S, 2 ** this.tries) * (0.8 + 0.4 * Math.random());
      this.tries += 1;
      this.count(Math.ceil(wait));
    }

    count(seconds) {
      if (seconds <= 0) {
        this.tell("trying");
        this.heard = performance.now();
        this.open();
        return;
      }
      this.tell("cut", this.why || `next try in ${seconds} s`);
      window.setTimeout(() => this.count(seconds - 1), 1000);
    }
  }

  const beginServed = async ({ take, tell, replay }, tries = 0) => {
    try {
      const picture = await ask("api/picture");
      take(picture);
      if (picture.is_live) new Stream(take, tell);
      else {
        tell("replay");
        replay.overTime(picture, await ask("api/span"), (at) => ask(`api/picture?at=${encodeURIComponent(at)}`));
      }
    } catch (error) {
      tell("failed", String(error.message || error));
      window.setTimeout(() => beginServed({ take, tell, replay }, tries + 1), Math.min(LONGEST_WAIT_S, 2 ** tries) * 1000);
    }
  };

  paceline.beginSource = (page) => {
    const embedded = document.getElementById("picture");
    if (!embedded) {
      beginServed(page);
      return;
    }
    const picture = JSON.parse(embedded.textContent);
    page.tell("report");
    page.take(picture);
    page.replay.overRounds(picture);
  };
})();
