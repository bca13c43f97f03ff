// Pictures and clips: one after the other, with progress, and what came out to look at and to download.

import { Card } from "./card.js";
import { forget, keep, kept } from "./memory.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 400;
const SETTLED_MS = 400;
const READS = "It reads pictures (JPEG, PNG, WebP, TIFF, BMP, GIF and more) and clips (MP4, MOV, MKV, WebM, AVI).";

// What went wrong, for whoever dropped the file; `detail` is for whoever runs the server.
class Trouble extends Error {
  constructor(message, detail = "", passes = false) {
    super(message);
    Object.assign(this, { detail, passes });
  }
}

function trouble(status, text, clip) {
  let problem = {};
  try { problem = JSON.parse(text); } catch { /* plain text */ }
  const detail = problem.detail ? `${problem.detail}: ${problem.cure}` : text.slice(0, 200) || `status ${status}`;
  const it = clip ? "This clip" : "This picture";
  const said = {
    401: ["The server was started again with another token: open the address that it printed."],
    408: ["The file came too slowly: the connection may be bad.", true],
    413: [`${it} is too large for this server: ${problem.detail}.`],
    415: [`This is not a ${clip ? "clip" : "picture"} that the server can read. ${READS}`],
    422: [/damaged/.test(detail) ? `${it} is damaged and cannot be read.` : `${it} cannot be worked on: ${problem.detail}.`],
    503: ["The server has too much to do at the moment.", true],
    504: ["The server took too long: it has too much to do at the moment.", true],
  }[status] || ["Something went wrong on the server.", true];
  return new Trouble(said[0], detail, said[1]);
}

// Gives a Blob, or the FormData of an answer in several parts; `signal` breaks it off.
function request(method, url, { body = null, type, accept, progress, signal, clip } = {}) {
  return new Promise((done, fail) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.responseType = "blob";
    if (type) xhr.setRequestHeader("Content-Type", type);
    if (accept) xhr.setRequestHeader("Accept", accept);
    if (progress) xhr.upload.onprogress = (event) => progress(event.loaded / event.total);
    if (signal) signal.addEventListener("abort", () => xhr.abort());
    xhr.onabort = () => fail(new Trouble("removed"));
    xhr.onerror = () => fail(new Trouble("The server does not answer, or has refused the file.", "", true));
    xhr.onload = async () => {
      const kind = xhr.getResponseHeader("Content-Type") || "";
      if (xhr.status < 300 && kind.startsWith("multipart/")) {
        new Response(xhr.response, { headers: { "Content-Type": kind } }).formData().then(done, fail);
        return;
      }
      if (xhr.status < 300) done(xhr.response);
      else fail(trouble(xhr.status, await xhr.response.text(), clip));
    };
    xhr.send(body);
  });
}

const json = async (blob) => JSON.parse(await blob.text());
const isClip = (file) => file.type.startsWith("video/") || /\.(mp4|mov|m4v|mkv|webm|avi)$/i.test(file.name);

export class Files {
  constructor(controls) {
    this.controls = controls;
    this.line = Promise.resolve();
    this.entries = new Set();
    const drop = $("drop");
    $("choose").addEventListener("change", (event) => { this.add(event.target.files); event.target.value = ""; });
    for (const name of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
      });
    }
    $("detect_every").addEventListener("change", () => this.changed());
    document.addEventListener("drop", (event) => this.add(event.dataTransfer.files));
    this.restored = this.restore();
  }

  add(files) {
    for (const file of files) this.queue(this.entry({ id: crypto.randomUUID?.() || `${Date.now()}-${Math.random()}`, name: file.name, clip: isClip(file), file }));
    if (files.length) this.onAdd();
  }

  // entry: {id, name, clip, file, card; of what is done: query, and found and picture, or state}.
  entry(record) {
    const entry = { ...record };
    entry.card = new Card(entry.name, {
      onRemove: () => {
        this.entries.delete(entry);
        forget(entry.id);
        if (entry.clip && entry.state) request("DELETE", `/v1/clips/${entry.state.id}`).catch(() => {});
        $("choose").focus();
      },
      onAgain: () => this.queue(entry),
    });
    this.entries.add(entry);
    $("results").prepend(entry.card.item);
    return entry;
  }

  // What this tab had before it was loaded again.
  async restore() {
    for (const record of await kept()) {
      const entry = this.entry(record);
      if (!entry.clip) this.showPicture(entry).catch((error) => entry.card.fail(error));
      else this.follow(entry).catch((error) => entry.card.fail(error));
    }
  }

  // What is asked for; null if no class is ticked.
  queryOf({ clip }) {
    const query = this.controls.query();
    if (clip && query) query.set("detect_every", $("detect_every").value);
    return query;
  }

  queue(entry) {
    entry.query = this.queryOf(entry);
    if (entry.waits) return;
    entry.waits = true;
    const work = async () => {
      entry.waits = false;
      if (entry.card.signal.aborted) return;
      if (!entry.file) { await this.follow(entry); return; } // from before a reload
      if (entry.query === null) throw new Trouble("No class is ticked: tick one.", "", true);
      const query = new URLSearchParams(entry.query);
      // Labels are drawn to be read in the width that the card has.
      query.set("shown_width", Math.max(50, Math.round($("results").clientWidth || 300) - 30));
      await (entry.clip ? this.clip(entry, query) : this.picture(entry, query));
    };
    this.line = this.line.then(() => work().catch((error) => entry.card.fail(error)));
  }

  // The controls have changed: pictures follow by themselves, a clip when it is asked for.
  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      for (const entry of this.entries) {
        const { state } = entry.card.item.dataset;
        const same = String(entry.query) === String(this.queryOf(entry));
        if (state === "failed") continue;
        if (entry.clip && state === "done") entry.card.offer(same || !entry.file ? "" : "Annotate again");
        else if ((!entry.clip || entry.waits) && !same) this.queue(entry);
      }
    }, SETTLED_MS);
  }

  async picture(entry, query) {
    const { file, card } = entry;
    const type = file.type || "application/octet-stream";
    const progress = (share) => card.progress(share / 2, share < 1 ? "sending" : "working");
    const parts = await request("POST", `/v1/detect?${query}`, { body: file, type, accept: "multipart/form-data", progress, signal: card.signal });
    entry.found = new Blob([parts.get("json")], { type: "application/json" });
    entry.picture = parts.get("picture");
    await this.showPicture(entry);
    this.keep(entry);
  }

  async showPicture({ card, found, picture }) {
    const { detections, inference_ms: time, warnings } = await json(found);
    card.release();
    const [source, lines] = [card.address(picture), card.address(found)];
    const image = Object.assign(new Image(), { src: source, alt: `${card.stem}, annotated` });
    const text = `${detections.length} found, ${Math.round(time)} ms${warnings.map((line) => `; ${line}`).join("")}`;
    card.done(text, image, [["Picture", source, "_annotated.png"], ["JSON", lines, ".json"]]);
  }

  async clip(entry, query) {
    const { file, card } = entry;
    const type = file.type.startsWith("video/") ? file.type : "application/octet-stream";
    const progress = (share) => card.progress(share * 0.2, "sending");
    const before = entry.state;
    entry.state = await json(await request("POST", `/v1/clips?${query}`, { body: file, type, progress, signal: card.signal, clip: true }));
    if (before) request("DELETE", `/v1/clips/${before.id}`).catch(() => {});
    if (card.signal.aborted) request("DELETE", `/v1/clips/${entry.state.id}`).catch(() => {});
    this.keep(entry);
    await this.follow(entry);
  }

  async follow(entry) {
    const { card } = entry;
    while (!card.signal.aborted) {
      const state = (entry.state = await this.stateOf(entry));
      if (state.state === "failed") throw new Trouble("This clip cannot be worked on to its end.", state.message);
      if (state.state === "done") break;
      const share = state.length ? state.frames / state.length : 0;
      card.progress(0.2 + 0.8 * Math.min(1, share), state.state, `${state.frames} of ${state.length ?? "?"} frames`);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    if (card.signal.aborted) return;
    const { state } = entry;
    const player = Object.assign(document.createElement("video"), { src: state.video, controls: true, playsInline: true, preload: "metadata" });
    player.setAttribute("aria-label", `${card.stem}, annotated`);
    const text = `${state.found} found in ${state.frames} frames, up to ${state.most} in one${state.message && `; ${state.message}`}`;
    card.done(text, player, [["Video", state.video, `_annotated.${state.video_type.split("/")[1]}`], ["JSON lines", state.detections, ".jsonl"]]);
    // The server does not keep clips for ever.
    for (const link of card.links.querySelectorAll("a")) link.addEventListener("click", () => this.stateOf(entry).catch((error) => card.fail(error)));
  }

  async stateOf({ state, file }) {
    const answer = await fetch(`/v1/clips/${state.id}`).catch(() => { throw new Trouble("The server does not answer.", "", true); });
    if (answer.status === 404) throw new Trouble("The server does not have it any more: choose the file again.", "", Boolean(file));
    if (!answer.ok) throw trouble(answer.status, await answer.text(), true);
    return answer.json();
  }

  keep({ id, name, clip, file, query, found, picture, state }) {
    // A clip may be larger than what a browser keeps, and lies on the server.
    keep({ id, name, clip, query: String(query), ...(clip ? { state } : { file, found, picture }) });
  }
}
