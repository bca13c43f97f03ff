// Sliders and boxes: what they say, and what the server says that they say.

const SLIDERS = ["score_threshold", "mask_threshold", "opacity"];
const $ = (id) => document.getElementById(id);

export class Controls {
  // onChange(fields) is called with what a person has changed.
  constructor(model, labels, onChange) {
    this.labels = labels;
    this.values = { ...model.controls };
    this.onChange = onChange;
    for (const name of SLIDERS) $(name).addEventListener("input", () => this.change({ [name]: Number($(name).value) }));
    for (const box of document.getElementsByName("color_by")) box.addEventListener("change", () => this.change({ color_by: box.value }));
    for (const name of model.effects) $("effect").add(new Option(name.replace("-", " "), name));
    $("effect").addEventListener("change", () => this.change({ effect: $("effect").value }));
    labels.forEach((label, id) => $("classes").append(this.classBox(label, id)));
    $("all").addEventListener("click", () => this.change({ classes: null }));
    $("none").addEventListener("click", () => this.change({ classes: [] }));
    this.show();
  }

  classBox(label, id) {
    const item = document.createElement("li");
    const name = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: id });
    box.addEventListener("change", () => this.change({ classes: this.ticked() }));
    name.append(box, label);
    item.append(name);
    return item;
  }

  boxes() { return [...$("classes").querySelectorAll("input")]; }

  ticked() {
    const ids = this.boxes().filter((box) => box.checked).map((box) => Number(box.value));
    return ids.length === this.labels.length ? null : ids;
  }

  change(fields) {
    this.touched = performance.now();
    Object.assign(this.values, fields);
    this.show();
    this.onChange(fields);
  }

  // What another viewer has changed; not while this person is at it, or the slider would jump.
  follow(values) {
    if (performance.now() - (this.touched || -1e9) < 1000) return;
    if (JSON.stringify(values) === JSON.stringify(this.values)) return;
    this.values = { ...values };
    this.show();
  }

  show() {
    for (const name of SLIDERS) {
      $(name).value = this.values[name];
      document.querySelector(`output[for="${name}"]`).value = this.values[name].toFixed(2);
    }
    for (const box of document.getElementsByName("color_by")) box.checked = box.value === this.values.color_by;
    $("effect").value = this.values.effect;
    const { classes } = this.values;
    for (const box of this.boxes()) box.checked = classes === null || classes.includes(Number(box.value));
    $("classes-count").value = classes === null ? `all ${this.labels.length}` : `${classes.length} of ${this.labels.length}`;
  }

  // As parameters of a request; null if no class is wanted, which a request cannot say.
  query() {
    const { classes, ...rest } = this.values;
    const query = new URLSearchParams(rest);
    if (classes !== null) query.set("classes", classes.join(","));
    return classes !== null && !classes.length ? null : query;
  }
}
