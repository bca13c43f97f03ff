// The conversation with the server: pictures come down, orders (and the camera's pictures) go up.

const SLOWEST_MS = 8000;
const LOCKED = "The server was started again with another token: open the address that it printed.";

// Whether the server answers, and does not know this page's token any more.
async function lockedOut() {
  return fetch("/v1/model").then((answer) => answer.status === 401, () => false);
}

export class Socket {
  // path: "/v1/live" or "/v1/camera". onPicture(status, blob), onError(text), onEnd(reason, again, locked).
  constructor(path, { onPicture, onError, onEnd, retry }) {
    Object.assign(this, { path, onPicture, onError, onEnd, retry });
    this.closed = false;
    this.wait = 500;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = async (event) => {
      if (this.closed) return;
      const locked = !event.reason && await lockedOut();
      if (this.closed) return;
      const again = this.retry && event.code !== 1000 && !locked;
      this.onEnd(event.reason || (locked ? LOCKED : "the server does not answer"), again, locked);
      if (again) {
        setTimeout(() => this.closed || this.open(), this.wait);
        this.wait = Math.min(this.wait * 2, SLOWEST_MS);
      }
    };
    this.socket = socket;
  }

  take(data) {
    if (typeof data === "string") {
      this.onError(JSON.parse(data).error);
      return;
    }
    this.wait = 500;
    const length = new DataView(data).getUint32(0);
    const status = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const picture = data.byteLength > 4 + length ? new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }) : null;
    // Answered once it is on the screen: a slow browser gets fewer pictures, and always the newest.
    Promise.resolve(this.onPicture(status, picture)).finally(() => this.send({ do: "seen" }));
  }

  get ready() { return this.socket.readyState === WebSocket.OPEN; }
  get buffered() { return this.socket.bufferedAmount; }
  send(order) { if (this.ready) this.socket.send(JSON.stringify(order)); }
  push(blob) { if (this.ready) this.socket.send(blob); }

  close() {
    this.closed = true;
    this.socket.close();
  }
}
