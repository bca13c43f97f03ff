// One result on the page: its picture or player, what was found, and what can be done with it.

const make = (tag, fields) => Object.assign(document.createElement(tag), fields);

export class Card {
  // onRemove() is called once it is gone, onAgain() when a person wants the file to be worked on again.
  constructor(name, { onRemove, onAgain }) {
    this.name = name;
    this.stem = name.replace(/\.[^.]*$/, "");
    this.removal = new AbortController();
    this.signal = this.removal.signal;
    this.urls = [];
    this.item = document.createElement("li");
    this.bar = make("progress", { max: 1, value: 0 });
    this.bar.setAttribute("aria-label", `Progress of ${name}`);
    this.text = make("p", { className: "quiet", textContent: "waiting" });
    this.text.setAttribute("role", "status");
    // Beside what is read out: it changes all the time.
    this.numbers = make("p", { className: "quiet" });
    this.detail = make("details", { hidden: true });
    this.detail.append(make("summary", { textContent: "Details" }), make("p", { className: "quiet" }));
    this.links = make("div", { className: "actions" });
    this.again = make("button", { hidden: true });
    this.again.addEventListener("click", onAgain);
    const remove = make("button", { textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => { this.removal.abort(); this.release(); this.item.remove(); onRemove(); });
    this.links.append(this.again, remove);
    this.item.append(make("h3", { textContent: name }), this.bar, this.text, this.numbers, this.detail, this.links);
  }

  progress(share, text, numbers = "") {
    delete this.item.dataset.state;
    this.text.className = "quiet";
    this.detail.hidden = true;
    this.bar.hidden = false;
    this.bar.value = share;
    if (this.text.textContent !== text) this.text.textContent = text;
    this.numbers.textContent = numbers;
    this.offer("");
  }

  // Addresses of blobs live until they are given back.
  address(blob) {
    this.urls.push(URL.createObjectURL(blob));
    return this.urls.at(-1);
  }

  release() {
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
  }

  // shown: an <img> or <video>; links: [[name, address, ending], ...]; urls: those of this result.
  done(text, shown, links) {
    this.end(text, "done");
    if (this.shown) this.shown.replaceWith(shown); else this.item.firstChild.after(shown);
    this.shown = shown;
    this.unlink();
    for (const [name, href, ending] of links) {
      this.links.prepend(make("a", { className: "button", textContent: `Download ${name}`, href, download: this.stem + ending }));
    }
  }

  // problem: {message, detail, passes}: what a person can use, what a programmer can, whether trying again may help.
  fail({ message, detail, passes }) {
    this.end(message, "failed");
    this.text.className = "bad";
    this.detail.hidden = !detail || detail === message;
    this.detail.lastChild.textContent = detail || "";
    if (this.shown) this.shown.remove();
    this.shown = null;
    this.unlink();
    this.offer(passes ? "Try again" : "");
  }

  end(text, state) {
    this.bar.hidden = true;
    this.numbers.textContent = "";
    this.detail.hidden = true;
    this.text.className = "quiet";
    this.text.textContent = text;
    this.item.dataset.state = state;
  }

  unlink() {
    for (const link of this.links.querySelectorAll("a")) link.remove();
  }

  offer(text) {
    this.again.hidden = !text;
    this.again.textContent = text;
    this.again.setAttribute("aria-label", `${text}: ${this.name}`);
  }
}
