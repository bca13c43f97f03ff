// Ties the page together: three places (live, camera, file) and one screen.

import { Camera } from "./camera.js";
import { Controls } from "./controls.js";
import { Files } from "./files.js";
import { recall, remember } from "./memory.js";
import { Socket } from "./socket.js";

const $ = (id) => document.getElementById(id);
const NO_SOURCE = "This server has no source of its own. Use your camera, or drop a file.";
let tab = "live";
let socket = null;
let camera = null;
let status = {};
let shown = null;
let age = null;

const [model, labels] = await Promise.all(["/v1/model", "/v1/labels"].map(async (path) => (await fetch(path)).json()));
$("model").textContent = `${model.name} · ${model.classes} classes · ${model.target.effective} · OpenCV ${model.opencv}`;
const controls = new Controls(model, labels, (fields) => {
  if (tab === "file") files.changed();
  else if (socket) socket.send({ do: "change", controls: fields });
});
const start = model.live ? "live" : "camera";
const files = new Files(controls);
files.onAdd = () => choose("file");

// What is shown

async function onPicture(now, blob) {
  status = now;
  if (tab === "live") controls.follow(now.controls);
  if (blob) await paint(blob);
  else if (!now.size && shown) clear("Waiting for the newest picture …");
  describe();
  if (camera && now.index !== onPicture.last) {
    onPicture.last = now.index;
    camera.answered();
  }
}

async function paint(blob) {
  const before = shown;
  shown = { blob, url: URL.createObjectURL(blob) };
  $("picture").src = shown.url;
  try { await $("picture").decode(); } catch { /* replaced by a newer one meanwhile */ }
  if (before) URL.revokeObjectURL(before.url);
  if (!shown) return; // the camera was stopped meanwhile, or another place was chosen
  $("picture").hidden = false;
  $("empty").hidden = true;
  fit();
}

// Labels are drawn by the server, to be read in the width that the picture has here.
function fit() {
  const { clientWidth, clientHeight, naturalWidth, naturalHeight } = $("picture");
  const width = Math.round(Math.min(clientWidth, (clientHeight * naturalWidth) / naturalHeight) / 10) * 10;
  if (!socket || !socket.ready || !(width >= 50) || socket.width === width) return;
  socket.width = width;
  socket.send({ do: "fit", width: Math.min(width, 10000) });
}

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function describe() {
  const { state, paused, recording = {}, size } = status;
  const seen = Boolean(size) && Boolean(shown);
  const moving = state === "live" && !paused;
  text("fps", seen ? (moving ? status.fps.toFixed(1) : "0") : "–");
  text("inference", seen ? `${Math.round(status.inference_ms)} ms` : "–");
  text("age", seen ? (moving ? `${status.age_ms} ms` : "–") : "–");
  text("size", seen ? size.join("×") : "–");
  text("fates", seen ? fates() : "\u00a0");
  const lost = state === "lost" || state === "failed";
  const said = { live: "Live", lost: "Source lost, trying again", ended: "The source has ended", still: "Still picture", failed: "The live picture has ended" }[state] || "";
  text("state", paused ? `Paused: ${status.source}` : status.message ? `${said}: ${status.message}` : `${said}${status.source ? `: ${status.source}` : ""}`);
  $("state").classList.toggle("bad", lost);
  $("screen").classList.toggle("stale", lost && seen);
  badge(paused, lost && seen, recording.state === "on");
  $("pause").classList.toggle("on", Boolean(paused));
  text("pause", paused ? "Go on" : "Pause");
  $("record").classList.toggle("on", recording.state === "on");
  text("record", recording.state === "on" ? "Stop" : "Record");
  $("record").setAttribute("aria-label", recording.state === "on" ? "Stop recording" : "Record");
  $("download").hidden = recording.state !== "ready";
  if (recording.key) $("download").href = `/v1/recordings/${recording.key}`;
  if (recording.message) complain("Recording", recording.message, recording.message_age_s);
  counts(seen);
  $("snapshot").disabled = !seen;
  for (const id of ["pause", "record"]) $(id).disabled = !seen || !socket || !socket.ready;
}

// What became of the frames that are not shown; at no pace of their own, nothing is left out.
function fates() {
  const { passed_over: passed = 0, undecodable = 0 } = status.fates || {};
  const carried = status.carried ? `Masks carried on from ${status.carried} frames before. ` : "";
  const filled = status.filled_in ? `, ${status.filled_in} missed objects hidden` : "";
  return `${carried}Not shown so far: ${passed} passed over, ${undecodable} unreadable${filled}`;
}

function badge(paused, lost, recording) {
  $("badge").hidden = !(paused || lost || recording);
  $("badge").classList.toggle("paused", Boolean(paused) && !lost);
  const also = lost ? "lost" : paused ? "paused" : "";
  text("badge", recording ? `Recording${also && `, ${also}`}` : also && also[0].toUpperCase() + also.slice(1));
}

function counts(seen) {
  // In the order of the classes: an object that moves in front of another leaves the rest where it is.
  const found = (seen ? Object.entries(status.counts) : []).sort(([a], [b]) => labels.indexOf(a) - labels.indexOf(b));
  const key = JSON.stringify(found);
  if (counts.key === key && counts.seen === seen) return;
  Object.assign(counts, { key, seen });
  $("total").value = seen ? `(${status.total})` : "";
  $("counts").replaceChildren(...found.map(([name, count]) => {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("b"), { textContent: count }), ` ${name}`);
    return item;
  }));
  if (!found.length) $("counts").append(Object.assign(document.createElement("li"), { className: "nothing", textContent: seen ? "nothing" : "–" }));
}

function blank(words) {
  status = {};
  clear(words);
  describe();
}

function clear(words) {
  if (shown) URL.revokeObjectURL(shown.url);
  shown = null;
  $("picture").hidden = true;
  $("picture").removeAttribute("src");
  $("empty").hidden = false;
  text("empty", words);
}

// A message has a subject and an age, and stays until it is closed; each is shown once.
function complain(subject, words, age_s = 0) {
  const said = `${subject}: ${words}`;
  const at = Date.now() - 1000 * age_s;
  // The server repeats what it has to say about a recording: only a newer one counts.
  if (subject === "Recording" && said === complain.said && at < complain.at + 2000) return;
  Object.assign(complain, { said, at });
  $("notice").hidden = false;
  $("note").textContent = said;
  grow();
}

function quiet() {
  $("notice").hidden = true;
  $("note").textContent = "";
}

function grow() {
  const minutes = Math.floor((Date.now() - complain.at) / 60_000);
  text("note-age", minutes < 1 ? "just now" : minutes < 60 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ago`);
}
setInterval(grow, 10_000);
$("note-close").addEventListener("click", () => { quiet(); $(`tab-${tab}`).focus(); });

// Where it comes from

function connect(path) {
  socket = new Socket(path, {
    retry: path === "/v1/live",
    onPicture,
    onError: (words) => complain("Controls", words),
    onEnd: (reason, again, locked) => {
      if (again) {
        status = { ...status, state: "lost", message: reason };
        if (!shown) text("empty", "The server does not answer. Trying again …");
        describe();
      } else if (tab === "camera") {
        stopCamera();
        complain("Camera", reason);
      } else {
        socket = null;
        blank(locked ? reason : NO_SOURCE);
      }
    },
  });
}

const CAMERA_TROUBLE = {
  NotAllowedError: "the browser may not use it: allow it beside the address, then start it again.",
  NotFoundError: "none is connected to this device.",
  NotReadableError: "another program uses it.",
};

async function startCamera() {
  quiet();
  text("empty", "Waiting for the camera …");
  const mine = (camera = new Camera((blob) => socket && socket.push(blob)));
  let trouble = "";
  try {
    await mine.start();
  } catch (error) {
    trouble = CAMERA_TROUBLE[error.name] || error.message;
  }
  if (camera !== mine) {
    mine.stop(); // while the browser asked for leave somebody stopped it
    return;
  }
  if (trouble) {
    stopCamera();
    complain("Camera", trouble);
    return;
  }
  connect("/v1/camera");
  const { score_threshold, mask_threshold, opacity, classes, color_by, effect } = controls.values;
  socket.socket.addEventListener("open", () => socket.send({ do: "change", controls: { score_threshold, mask_threshold, opacity, classes, color_by, effect } }));
  text("camera-switch", "Stop camera");
}

function stopCamera() {
  if (camera) camera.stop();
  camera = null;
  leave();
  text("camera-switch", "Start camera");
  blank("Your pictures go to this server only, and are not kept.");
}

function leave() {
  if (socket) socket.close();
  socket = null;
}

function choose(name) {
  if (tab === name && choose.done) return;
  choose.done = true;
  tab = name;
  for (const button of document.querySelectorAll("[role=tab]")) {
    button.setAttribute("aria-selected", String(button.dataset.tab === name));
    button.tabIndex = button.dataset.tab === name ? 0 : -1;
  }
  $("stage").hidden = name === "file";
  $("stage").setAttribute("aria-labelledby", `tab-${name}`);
  $("files").hidden = $("results-box").hidden = name !== "file";
  $("clips-only").hidden = name !== "file";
  history.replaceState(null, "", name === start ? location.pathname : `#${name}`); // a reload comes back here
  for (const one of document.querySelectorAll(".seen, .keys")) one.hidden = name === "file";
  $("camera-switch").hidden = name !== "camera";
  quiet();
  stopCamera();
  if (name === "live") {
    blank(model.live ? "Waiting for the first picture …" : NO_SOURCE);
    if (model.live) connect("/v1/live");
  }
}

// What a person does

for (const button of document.querySelectorAll("[role=tab]")) {
  button.addEventListener("click", () => choose(button.dataset.tab));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...document.querySelectorAll("[role=tab]")];
    const next = all[(all.indexOf(button) + step + all.length) % all.length];
    next.focus();
    choose(next.dataset.tab);
  });
}
$("camera-switch").addEventListener("click", () => (camera ? stopCamera() : startCamera()));
$("pause").addEventListener("click", () => {
  const on = !status.paused;
  if (camera) camera.paused = on;
  socket.send({ do: "pause", on });
});
$("record").addEventListener("click", () => {
  quiet();
  socket.send({ do: "record", on: (status.recording || {}).state !== "on" });
});
$("snapshot").addEventListener("click", () => {
  const name = `cvmask_${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.jpg`;
  Object.assign(document.createElement("a"), { href: shown.url, download: name }).click();
});
document.addEventListener("keydown", (event) => {
  if (!$("keys").checked || event.repeat || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const id = { p: "pause", s: "snapshot", r: "record" }[event.key];
  if (id && !$(id).disabled && tab !== "file") $(id).click();
});

// Somebody who speaks to a computer, or leans on a key, turns them off.
$("keys").checked = recall("keys") !== "off";
const nameKeys = () => { for (const id of ["pause", "snapshot", "record"]) $("keys").checked ? $(id).setAttribute("aria-keyshortcuts", id[0]) : $(id).removeAttribute("aria-keyshortcuts"); };
$("keys").addEventListener("change", () => { remember("keys", $("keys").checked ? "on" : "off"); nameKeys(); });
nameKeys();
$("intro").hidden = recall("intro") === "closed";
const closeIntro = () => { remember("intro", "closed"); $("intro").hidden = true; };
$("intro-close").addEventListener("click", () => { closeIntro(); $(`tab-${tab}`).focus(); });
$("try").addEventListener("click", () => { closeIntro(); choose("camera"); $("camera-switch").focus(); startCamera(); });
new ResizeObserver(fit).observe($("picture"));

const asked = location.hash.slice(1);
choose(["live", "camera", "file"].includes(asked) ? asked : start);
