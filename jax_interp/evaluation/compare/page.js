"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = ["#1f77d0", "#d1570b", "#2f8f3f"];
const KEPT = 48; // decoded pictures that are kept
const AHEAD = 4; // moments that are decoded ahead while playing
const state = { moment: 0, left: 0, right: 1, alone: null, split: 0.5, difference: false, playing: false, speed: 1 };
const picture = $("picture");
const context = picture.getContext("2d");
const count = data.moments.length;
const decoded = new Map();
let drawn = 0; // the number of the newest drawing; an older one that is late is dropped
let pending = false; // whether the newest one waits for its pictures

function bitmap(clip, frame) {
  const key = `f${clip}-${frame}`;
  let found = decoded.get(key);
  if (found) {
    decoded.delete(key);
  } else {
    const text = atob($(key).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    found = createImageBitmap(new Blob([bytes], { type: "image/webp" }));
  }
  decoded.set(key, found); // newest last
  while (decoded.size > KEPT) {
    const [oldest, promise] = decoded.entries().next().value;
    decoded.delete(oldest);
    promise.then((image) => image.close(), () => {});
  }
  return found;
}

const sides = () => (state.alone === null ? [state.left, state.right] : [state.alone, state.alone]);
const frames = (moment) => sides().map((clip) => bitmap(clip, data.moments[moment][clip]));

async function draw() {
  const mine = ++drawn;
  pending = true;
  const moment = state.moment;
  const clips = sides();
  try {
    const [left, right] = await Promise.all(frames(moment)); // both, so that they are always of one moment
    if (mine !== drawn) return;
    paint(left, right);
    const indices = clips.map((clip) => data.moments[moment][clip]);
    Object.assign(document.body.dataset, { moment, leftFrame: indices[0], rightFrame: indices[1] });
  } catch (error) {
    if (mine !== drawn) return;
    $("failure").hidden = false;
    $("failure").textContent = `Frame ${moment} cannot be shown: ${error.message}`;
  } finally {
    if (mine === drawn) pending = false;
  }
}

function paint(left, right) {
  const { width, height } = picture;
  context.globalCompositeOperation = "source-over";
  context.drawImage(right, 0, 0, width, height);
  if (state.difference) {
    context.globalCompositeOperation = "difference";
    context.drawImage(left, 0, 0, width, height);
    context.globalCompositeOperation = "lighter"; // twice, and twice again
    context.drawImage(picture, 0, 0);
    context.drawImage(picture, 0, 0);
    return;
  }
  context.save();
  context.beginPath();
  context.rect(0, 0, Math.round(width * state.split), height);
  context.clip();
  context.drawImage(left, 0, 0, width, height);
  context.restore();
}

function go(moment) {
  state.moment = Math.max(0, Math.min(count - 1, moment));
  show();
}

function show() {
  $("seek").value = state.moment;
  const clips = sides();
  const indices = clips.map((clip) => data.moments[state.moment][clip]);
  const seconds = (state.moment / data.rate).toFixed(3);
  $("where").textContent = `${seconds} s, ${state.moment} of ${count - 1}; left frame ${indices[0]}, right ${indices[1]}`;
  $("left-tag").textContent = data.clips[clips[0]].name;
  $("right-tag").textContent = data.clips[clips[1]].name;
  $("right-tag").hidden = state.alone !== null || state.difference;
  $("left-tag").textContent += state.difference ? ` − ${data.clips[clips[1]].name}, ×4` : "";
  $("divider").hidden = state.alone !== null || state.difference;
  $("divider").style.left = `${100 * state.split}%`;
  $("divider").setAttribute("aria-valuenow", Math.round(100 * state.split));
  $("play").textContent = state.playing ? "Pause" : "Play";
  $("left").value = state.left;
  $("right").value = state.right;
  $("difference").checked = state.difference;
  document.body.dataset.playing = state.playing;
  draw();
  plot();
}

let begun = 0;
let from = 0;

function play(wanted) {
  state.playing = wanted;
  if (wanted) {
    begun = performance.now();
    from = state.moment >= count - 1 ? 0 : state.moment;
    requestAnimationFrame(tick);
  }
  show();
}

function tick(now) {
  if (!state.playing) return;
  const passed = Math.max(0, Math.floor(((now - begun) / 1000) * data.rate * state.speed));
  const moment = (from + passed) % count;
  // Where decoding is slower than the clip, frames are left out, and every one that is begun is shown.
  if (!pending && moment !== state.moment) {
    for (let ahead = 1; ahead <= AHEAD; ahead++) frames((moment + ahead) % count);
    go(moment);
  }
  requestAnimationFrame(tick);
}

const step = (by) => {
  state.playing = false;
  go(state.moment + by);
};

function split(share) {
  state.split = Math.max(0, Math.min(1, share));
  show();
}

function alone(clip) {
  state.alone = state.alone === clip ? null : clip;
  show();
}

// The plot: one line for each two clips.
const lines = Object.entries(data.differences).map(([key, values], index) => ({
  name: key.split("-").map((clip) => data.clips[clip].name).join(" and "),
  values,
  colour: COLOURS[index],
}));
const MARGIN = { left: 44, right: 8, top: 10, bottom: 22 };

function plot() {
  const canvas = $("plot");
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const colours = getComputedStyle(document.body);
  const most = Math.max(0.001, ...lines.map((line) => line.values.reduce((a, b) => Math.max(a, b), 0)));
  const x = (moment) => MARGIN.left + ((width - MARGIN.left - MARGIN.right) * moment) / Math.max(1, count - 1);
  const y = (value) => height - MARGIN.bottom - ((height - MARGIN.top - MARGIN.bottom) * value) / most;
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = colours.getPropertyValue("--soft");
  pen.strokeStyle = colours.getPropertyValue("--line");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  for (const share of [0, 0.5, 1]) {
    pen.beginPath();
    pen.moveTo(MARGIN.left, y(share * most));
    pen.lineTo(width - MARGIN.right, y(share * most));
    pen.stroke();
    pen.fillText((share * most).toFixed(most < 10 ? 2 : 0), MARGIN.left - 5, y(share * most) + 4);
  }
  pen.textAlign = "left";
  pen.fillText("0", x(0), height - 6);
  pen.textAlign = "right";
  pen.fillText(`${count - 1}`, x(count - 1), height - 6);
  for (const line of lines) {
    pen.strokeStyle = line.colour;
    pen.lineWidth = 1.5;
    pen.beginPath();
    line.values.forEach((value, moment) => pen.lineTo(x(moment), y(value)));
    pen.stroke();
  }
  pen.strokeStyle = colours.getPropertyValue("--ink");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x(state.moment), MARGIN.top);
  pen.lineTo(x(state.moment), height - MARGIN.bottom);
  pen.stroke();
}

// What the user does.
function share(event, element, left = 0, right = 0) {
  const box = element.getBoundingClientRect();
  return (event.clientX - box.left - left) / (box.width - left - right);
}

function dragged(element, act) {
  let down = false;
  element.addEventListener("pointerdown", (event) => {
    down = true;
    element.setPointerCapture(event.pointerId);
    act(event);
  });
  element.addEventListener("pointermove", (event) => down && act(event));
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (down = false));
}

dragged($("stage"), (event) => split(share(event, picture)));
dragged($("plot"), (event) => {
  state.playing = false;
  go(Math.round(share(event, $("plot"), MARGIN.left, MARGIN.right) * (count - 1)));
});
$("seek").addEventListener("input", (event) => {
  state.playing = false;
  go(Number(event.target.value));
});
$("first").addEventListener("click", () => step(-count));
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("last").addEventListener("click", () => step(count));
$("play").addEventListener("click", () => play(!state.playing));
$("speed").addEventListener("change", (event) => {
  state.speed = Number(event.target.value);
  if (state.playing) play(true);
});
$("difference").addEventListener("change", (event) => {
  state.difference = event.target.checked;
  show();
});
for (const side of ["left", "right"]) {
  data.clips.forEach((clip, index) => $(side).add(new Option(clip.name, index)));
  $(side).addEventListener("change", (event) => {
    state[side] = Number(event.target.value);
    state.alone = null;
    show();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
  const onDivider = event.target === $("divider") || event.shiftKey;
  const keys = {
    ArrowLeft: () => (onDivider ? split(state.split - 0.02) : step(-1)),
    ArrowRight: () => (onDivider ? split(state.split + 0.02) : step(1)),
    Home: () => step(-count),
    End: () => step(count),
    d: () => $("difference").click(),
  };
  if (!["BUTTON", "SUMMARY", "INPUT"].includes(event.target.tagName)) keys[" "] = () => play(!state.playing);
  data.clips.forEach((_, index) => (keys[`${index + 1}`] = () => alone(index)));
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

picture.width = data.width;
picture.height = data.height;
$("stage").style.maxWidth = `calc(75vh * ${data.width / data.height})`;
$("seek").max = count - 1;
$("about").textContent =
  data.clips.map((clip) => `${clip.name}: ${clip.about}`).join("\n") +
  (data.alignment === "ends" ? "\nThe clips differ in length: their first and last frames are shown together." : "");
for (const line of lines) {
  const entry = document.createElement("span");
  entry.textContent = `— ${line.name}`;
  entry.style.color = line.colour;
  $("legend").append(entry);
}
new ResizeObserver(plot).observe($("plot"));
show();
