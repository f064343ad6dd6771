"use strict";
// What the viewer, the table and the marks share: the data of the page, the selected row, drawing of voxels.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("live-data").textContent);
const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
const AXES = ["z", "y", "x"];
const MINUS = "\u2212";

function unpacked({ type, data: text }) {
  return new TYPES[type](Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

const columns = data.columns.map((column) => ({ ...column, cells: unpacked(column) }));
const places = data.places.map(unpacked);
const rowNumbers = unpacked(data.rows);
const ids = columns.find((column) => column.name === "id");
const scores = columns.find((column) => column.name === "score");
const classes = columns.find((column) => column.name === "class");

/** An element with properties and children; texts of the data come in as text alone. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const say = (text) => { $("live-status").textContent = text; };
const nameOf = (row) => (ids ? `synapse ${ids.cells[row]}` : `row ${rowNumbers[row] + 1}`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const placeOf = (row) => places.map((axis) => axis[row]);

function written(value) {
  if (Number.isNaN(value)) return "";
  if (Number.isInteger(value)) return value.toLocaleString("en", { useGrouping: Math.abs(value) >= 1e4 });
  return String(Number(value.toPrecision(4)));
}

const cell = (column, row) => (column.values ? column.values[column.cells[row]].name : written(column.cells[row]));

// The one selected row, and who wants to know of another.
const selection = { row: -1, listeners: [] };

function select(row, from) {
  selection.row = row;
  for (const listener of selection.listeners) listener(row, from);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a browser that keeps its clipboard from files still copies what is selected
    const field = element("textarea", { value: text, className: "unseen" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  say(`Copied: ${text}`);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/** A quoted word of a POSIX shell. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`);

/** The folder of this page where it was opened from a disk. */
function folder() {
  if (location.protocol !== "file:") return "FOLDER";
  return quoted(decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "") || "/");
}

/** An image; the page has not loaded before it has, so that what prints or pictures a loaded page finds the viewer. */
const loaded = (address) => new Promise((found, failed) => {
  const image = new Image();
  image.onload = () => found(image);
  image.onerror = () => failed(new Error("an image of this page cannot be read"));
  image.src = address;
});

/** Sections of one height and width, beside and below each other in one image; each starts at a multiple of 8. */
class Sheet {
  static async of(address, across, height, width) {
    const image = await loaded(address);
    const canvas = element("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    const sheet = new Sheet();
    const [tall, wide] = [Math.ceil(height / 8) * 8, Math.ceil(width / 8) * 8];
    Object.assign(sheet, { across, tall, wide, row: image.width, bytes: new Uint8Array(pixels.length / 4) });
    for (let i = 0; i < sheet.bytes.length; i++) sheet.bytes[i] = pixels[4 * i];
    return sheet;
  }

  /** The place in `bytes` of a pixel of a section. */
  at(section, y, x) {
    const top = Math.floor(section / this.across) * this.tall;
    return (top + y) * this.row + (section % this.across) * this.wide + x;
  }
}

// The part of the volume and the synaptograms that the page holds; null until they are decoded, or without voxels.
let voxels = null;

async function decodeVoxels() {
  const held = data.voxels;
  const [, height, width] = held.shape;
  const [, nearHeight, nearWidth] = held.window;
  const part = (address) => Sheet.of(address, held.across, height, width);
  const near = (address) => Sheet.of(address, held.nearAcross, nearHeight, nearWidth);
  voxels = {
    channels: await Promise.all(held.channels.map(async (channel) => ({
      ...channel, black: 0, part: await part(channel.part), near: await near(channel.near),
    }))),
    masks: held.masks.map((mask, i) => ({ ...mask, shown: i === 0 })),
    partMasks: held.partMasks ? await part(held.partMasks) : null,
    nearMasks: held.nearMasks ? await near(held.nearMasks) : null,
    markOf: new Map(data.marks.map((row, i) => [row, i])),
  };
}

/** How a channel's 256 steps are shown: from black to white. */
function shades({ black, white }) {
  return Uint8ClampedArray.from({ length: 256 }, (_, i) => ((i - black) * 255) / Math.max(1, white - black));
}

/** Add the edges of a mask to the path of a context: between pixels, so that no pixel is covered. */
function traceEdges(context, inside, height, width, left, top, stepX, stepY) {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside(y, x)) continue;
      const [x0, y0, x1, y1] = [left + x * stepX, top + y * stepY, left + (x + 1) * stepX, top + (y + 1) * stepY];
      if (!inside(y - 1, x)) { context.moveTo(x0, y0); context.lineTo(x1, y0); }
      if (!inside(y + 1, x)) { context.moveTo(x0, y1); context.lineTo(x1, y1); }
      if (!inside(y, x - 1)) { context.moveTo(x0, y0); context.lineTo(x0, y1); }
      if (!inside(y, x + 1)) { context.moveTo(x1, y0); context.lineTo(x1, y1); }
    }
  }
}

/** Where a row lies in the part of the viewer, in its voxels; null outside of it. */
function inPart(row) {
  if (!data.voxels || data.unit !== "voxels") return null;
  const { start, shape } = data.voxels;
  const at = placeOf(row).map((value, axis) => Math.floor(value + 0.5) - start[axis]);
  return at.every((value, axis) => value >= 0 && value < shape[axis]) ? at : null;
}

/** Read the voxels around a row: sheets, and the place of each voxel or -1; null where the page holds none. */
function around(row) {
  if (!voxels) return null;
  const [depth, height, width] = data.voxels.window;
  const mark = voxels.markOf.get(row);
  if (mark !== undefined) {
    const at = (sheet, section, y, x) =>
      y < 0 || x < 0 || y >= height || x >= width ? -1 : sheet.at(mark * depth + section, y, x);
    return { kind: "near", masks: voxels.nearMasks, at };
  }
  const centre = inPart(row);
  if (!centre) return null;
  const first = [depth, height, width].map((extent, axis) => centre[axis] - Math.floor(extent / 2));
  const at = (sheet, section, y, x) => {
    const place = [first[0] + section, first[1] + y, first[2] + x];
    return place.every((value, axis) => value >= 0 && value < data.voxels.shape[axis]) ? sheet.at(...place) : -1;
  };
  return { kind: "part", masks: voxels.partMasks, at };
}

/** Make a canvas sharp on this screen; return its context, whose unit is a pixel of the page. */
function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  return context;
}

const scratch = element("canvas");

/** Draw the tile of one section: `pick` gives red, green and blue of a voxel, or null outside of what the page holds. */
function drawTile(context, pick, height, width, left, top, stepX, stepY) {
  Object.assign(scratch, { height, width });
  const small = scratch.getContext("2d");
  const image = small.createImageData(width, height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      const found = pick(y, x);
      if (found) image.data.set([...found, 255], to);
    }
  }
  small.putImageData(image, 0, 0);
  context.fillStyle = colour("--line");
  context.fillRect(left, top, width * stepX, height * stepY);
  context.drawImage(scratch, left, top, width * stepX, height * stepY);
}

function strokeMasks(context, near, section, height, width, left, top, stepX, stepY) {
  if (!near.masks) return;
  context.save();
  context.beginPath();
  context.rect(left, top, width * stepX, height * stepY);
  context.clip();
  voxels.masks.forEach((mask, bit) => {
    if (!mask.shown) return;
    const inside = (y, x) => {
      const place = near.at(near.masks, section, y, x);
      return place >= 0 && (near.masks.bytes[place] >> bit) & 1;
    };
    context.beginPath();
    traceEdges(context, inside, height, width, left, top, stepX, stepY);
    context.lineWidth = Math.min(1.5, 0.6 * stepX); // thinner than a voxel, to hide none
    context.strokeStyle = mask.colour;
    context.stroke();
  });
  context.restore();
}

/** Draw a row as synaptogram: channels from top to bottom, sections from left to right; false without its voxels. */
function drawSynaptogram(canvas, row, most) {
  const near = around(row);
  if (!near) return false;
  const [depth, height, width] = data.voxels.window;
  const [, yUm, xUm] = data.voxelUm || [1, 1, 1];
  const [label, gap, foot] = [76, 3, 18];
  const stepX = Math.max(1, Math.min(8, (most - label - gap * depth) / (depth * width)));
  const stepY = (stepX * yUm) / xUm;
  const [tileX, tileY] = [width * stepX, height * stepY];
  const total = label + depth * (tileX + gap);
  const context = sharp(canvas, total, voxels.channels.length * (tileY + gap) + foot);
  context.font = "12px system-ui, sans-serif";
  voxels.channels.forEach((channel, i) => {
    const top = i * (tileY + gap);
    const shade = shades(channel);
    context.fillStyle = colour("--ink");
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(channel.name.length > 11 ? `${channel.name.slice(0, 10)}…` : channel.name, 0, top + tileY / 2);
    for (let section = 0; section < depth; section++) {
      const left = label + section * (tileX + gap);
      const pick = (y, x) => {
        const place = near.at(channel[near.kind], section, y, x);
        return place < 0 ? null : Array(3).fill(shade[channel[near.kind].bytes[place]]);
      };
      drawTile(context, pick, height, width, left, top, stepX, stepY);
      strokeMasks(context, near, section, height, width, left, top, stepX, stepY);
    }
  });
  context.fillStyle = colour("--quiet");
  context.textAlign = "center";
  const bottom = voxels.channels.length * (tileY + gap);
  for (let section = 0; section < depth; section++) {
    const offset = section - Math.floor(depth / 2);
    const text = offset === 0 ? "0" : offset > 0 ? `+${offset}` : `${MINUS}${-offset}`;
    context.fillText(text, label + section * (tileX + gap) + tileX / 2, bottom + foot / 2);
  }
  if (data.voxelUm) {
    const bar = (0.5 / xUm) * stepX;
    context.fillStyle = "#000";
    context.fillRect(total - gap - bar - 6, bottom - gap - 9, bar + 2, 5);
    context.fillStyle = "#fff";
    context.fillRect(total - gap - bar - 5, bottom - gap - 8, bar, 3);
  }
  return true;
}
