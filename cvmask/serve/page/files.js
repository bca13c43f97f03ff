// Pictures and clips: one after the other, with progress, and what came out to download.

const $ = (id) => document.getElementById(id);
const POLL_MS = 400;

// Gives a Blob, or the FormData of an answer in several parts; `signal` breaks it off.
function request(method, url, { body = null, type, accept, progress, signal } = {}) {
  return new Promise((done, fail) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.responseType = "blob";
    if (type) xhr.setRequestHeader("Content-Type", type);
    if (accept) xhr.setRequestHeader("Accept", accept);
    if (progress) xhr.upload.onprogress = (event) => progress(event.loaded / event.total);
    if (signal) signal.addEventListener("abort", () => xhr.abort());
    xhr.onabort = () => fail(new Error("removed"));
    xhr.onerror = () => fail(new Error("The server does not answer, or has refused the file."));
    xhr.onload = async () => {
      const kind = xhr.getResponseHeader("Content-Type") || "";
      if (xhr.status < 300 && kind.startsWith("multipart/")) {
        new Response(xhr.response, { headers: { "Content-Type": kind } }).formData().then(done, fail);
        return;
      }
      if (xhr.status < 300) { done(xhr.response); return; }
      const text = await xhr.response.text();
      try {
        const problem = JSON.parse(text);
        fail(new Error(`${problem.detail}: ${problem.cure}`));
      } catch {
        fail(new Error(text.slice(0, 200) || `status ${xhr.status}`));
      }
    };
    xhr.send(body);
  });
}

const json = async (blob) => JSON.parse(await blob.text());

export class Files {
  constructor(controls) {
    this.controls = controls;
    this.line = Promise.resolve();
    const drop = $("drop");
    $("choose").addEventListener("change", (event) => { this.add(event.target.files); event.target.value = ""; });
    for (const name of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
      });
    }
    document.addEventListener("drop", (event) => this.add(event.dataTransfer.files));
  }

  add(files) {
    if (!files.length) return;
    this.onAdd();
    for (const file of files) {
      const card = new Card(file);
      $("results").prepend(card.item);
      this.line = this.line.then(() => this.work(file, card).catch((error) => card.fail(error.message)));
    }
  }

  async work(file, card) {
    if (card.signal.aborted) return;
    const query = this.controls.query();
    if (query === null) throw new Error("No class is ticked: tick one.");
    const clip = file.type.startsWith("video/") || /\.(mp4|mov|m4v|mkv|webm|avi)$/i.test(file.name);
    await (clip ? this.clip(file, card, query) : this.picture(file, card, query));
  }

  async picture(file, card, query) {
    const type = file.type || "application/octet-stream";
    const progress = (share) => card.progress(share / 2, share < 1 ? "sending" : "working");
    const parts = await request("POST", `/v1/detect?${query}`, { body: file, type, accept: "multipart/form-data", progress, signal: card.signal });
    const [found, picture] = [new Blob([parts.get("json")], { type: "application/json" }), parts.get("picture")];
    const { detections, inference_ms: time, warnings } = await json(found);
    card.picture(picture);
    card.done(`${detections.length} found, ${Math.round(time)} ms${warnings.map((line) => `; ${line}`).join("")}`);
    card.link("Picture", URL.createObjectURL(picture), "_annotated.png");
    card.link("JSON", URL.createObjectURL(found), ".json");
  }

  async clip(file, card, query) {
    const type = file.type.startsWith("video/") ? file.type : "application/octet-stream";
    const progress = (share) => card.progress(share * 0.2, "sending");
    let state = await json(await request("POST", `/v1/clips?${query}`, { body: file, type, progress, signal: card.signal }));
    const forget = () => request("DELETE", `/v1/clips/${state.id}`).catch(() => {});
    card.signal.addEventListener("abort", forget);
    if (card.signal.aborted) forget();
    while (state.state === "waiting" || state.state === "working") {
      const share = state.length ? state.frames / state.length : 0;
      card.progress(0.2 + 0.8 * Math.min(1, share), state.state, `${state.frames} of ${state.length ?? "?"} frames`);
      await new Promise((done) => setTimeout(done, POLL_MS));
      if (card.signal.aborted) return;
      state = await json(await request("GET", `/v1/clips/${state.id}`));
    }
    if (state.state === "failed") throw new Error(state.message);
    card.done(`${state.frames} frames${state.message && `; ${state.message}`}`);
    const place = `/v1/clips/${state.id}`;
    card.link("Video", state.video, "_annotated.mp4", place);
    card.link("JSON lines", state.detections, ".jsonl", place);
  }
}

class Card {
  constructor(file) {
    this.removal = new AbortController();
    this.signal = this.removal.signal;
    this.stem = file.name.replace(/\.[^.]*$/, "");
    this.item = document.createElement("li");
    const title = Object.assign(document.createElement("h3"), { textContent: file.name });
    this.bar = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
    this.text = Object.assign(document.createElement("p"), { className: "quiet", textContent: "waiting" });
    this.text.setAttribute("role", "status");
    // Beside what is read out: it changes all the time.
    this.numbers = Object.assign(document.createElement("p"), { className: "quiet" });
    this.links = Object.assign(document.createElement("div"), { className: "actions" });
    const remove = Object.assign(document.createElement("button"), { textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => this.remove());
    this.links.append(remove);
    this.item.append(title, this.bar, this.text, this.numbers, this.links);
  }

  progress(share, text, numbers = "") {
    this.bar.value = share;
    if (this.text.textContent !== text) this.text.textContent = text;
    this.numbers.textContent = numbers;
  }

  picture(blob) {
    const image = Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: `${this.stem}, annotated` });
    this.bar.after(image);
  }

  done(text) {
    this.bar.remove();
    this.numbers.remove();
    this.text.textContent = text;
    this.item.dataset.state = "done";
  }

  fail(text) {
    this.done(text);
    this.text.className = "bad";
    this.item.dataset.state = "failed";
    for (const link of this.links.querySelectorAll("a")) link.remove();
  }

  // place: where to ask whether it is still there; the server does not keep clips for ever.
  link(name, href, ending, place) {
    const link = Object.assign(document.createElement("a"), { className: "button", textContent: `Download ${name}`, href, download: this.stem + ending });
    const look = (answer) => answer.status === 404 && this.fail("The server does not have it any more: choose the file again.");
    if (place) link.addEventListener("click", () => fetch(place).then(look, () => {}));
    this.links.prepend(link);
  }

  remove() {
    this.removal.abort();
    this.item.remove();
    $("choose").focus();
  }
}
