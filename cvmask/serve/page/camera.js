// The browser's own camera, as pictures for the server: never more than it has answered.

const AHEAD = 2;
const SILENCE_MS = 1500;
const LONGEST_SIDE = 1280;
const QUALITY = 0.85;

export class Camera {
  constructor(push) {
    this.push = push;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
    this.waiting = 0;
    this.sentAt = 0;
  }

  async start() {
    if (!navigator.mediaDevices) throw new Error("A camera needs https, or an address on this machine such as 127.0.0.1.");
    const video = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    this.video.srcObject = this.stream;
    await this.video.play();
    this.timer = setInterval(() => this.next(), 15);
  }

  answered() { this.waiting = Math.max(0, this.waiting - 1); }

  async next() {
    if (performance.now() - this.sentAt > SILENCE_MS) this.waiting = 0;
    if (this.paused || this.busy || this.waiting >= AHEAD || !this.video.videoWidth) return;
    if (this.video.currentTime === this.seen) return;
    this.busy = true;
    this.seen = this.video.currentTime;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(this.video.videoWidth, this.video.videoHeight));
    this.canvas.width = Math.round(this.video.videoWidth * scale);
    this.canvas.height = Math.round(this.video.videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const blob = await new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
    this.busy = false;
    if (!blob || !this.timer) return;
    this.waiting += 1;
    this.sentAt = performance.now();
    this.push(blob);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    for (const track of this.stream ? this.stream.getTracks() : []) track.stop();
  }
}
