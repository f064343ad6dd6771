// Marking: a random sample, one by one and blind; precision with its interval, and the count over strictness.

const LABELS = { t: "true", f: "false", u: "unsure" };
const LEAST_KEPT = 10; // labels from which a precision is given at a strictness, as in `nd-synapse evaluate`
const marking = { at: 0, labels: [], revealed: false, started: false, chart: null };
const key = () => `nd-synapse labels ${document.title} ${data.n} ${data.places[0]?.data.slice(0, 64)}`;

function remember() {
  try {
    localStorage.setItem(key(), JSON.stringify(marking.labels));
  } catch { /* a browser may keep nothing of files: the labels last as long as the page */ }
}

function recall() {
  try {
    const held = JSON.parse(localStorage.getItem(key()) ?? "[]");
    if (Array.isArray(held)) marking.labels = held.slice(0, data.marks.length);
  } catch { /* as above */ }
  marking.at = data.marks.findIndex((_, i) => !marking.labels[i]);
  if (marking.at < 0) marking.at = data.marks.length;
}

const marked = () => marking.labels.filter(Boolean).length;

function mark(label) {
  if (marking.at >= data.marks.length) return;
  marking.labels[marking.at] = label;
  say(`${label}; ${marked()} of ${data.marks.length} marked.`);
  marking.at++;
  remember();
  showMark();
}

function back() {
  marking.at = Math.max(0, marking.at - 1);
  showMark();
}

function showMark() {
  const ended = marking.at >= data.marks.length;
  $("mark-progress").max = data.marks.length;
  $("mark-progress").value = marked();
  $("mark-count").textContent = `${marked()} of ${data.marks.length} marked`;
  const given = marking.labels[marking.at];
  $("mark-heading").textContent = ended ? "All are marked. Download the labels below." : `Candidate ${marking.at + 1}${given ? `, marked ${given}` : ""}`;
  $("mark-canvas").hidden = ended;
  if (!ended) drawSynaptogram($("mark-canvas"), data.marks[marking.at], Math.min(760, $("mark-panel").clientWidth - 34));
  for (const id of ["mark-true", "mark-false", "mark-unsure"]) $(id).disabled = ended;
  $("mark-back").disabled = marking.at === 0;
  for (const id of ["mark-download", "mark-reveal", "mark-clear"]) $(id).disabled = marked() === 0;
  if (marking.revealed) showPrecision();
}

function labelsCsv() {
  const place = data.unit === "voxels" ? AXES : AXES.map((axis) => `${axis}_um`);
  const pipeline = `"${data.pipeline.replace(/"/g, '""')}"`;
  const lines = marking.labels.flatMap((label, i) => {
    const row = data.marks[i];
    return label ? [[ids ? ids.cells[row] : rowNumbers[row] + 1, ...placeOf(row), label, pipeline, data.strictness ?? ""].join(",")] : [];
  });
  return [["id", ...place, "label", "pipeline", "strictness"].join(","), ...lines, ""].join("\r\n");
}

function download() {
  const address = URL.createObjectURL(new Blob([labelsCsv()], { type: "text/csv" }));
  element("a", { href: address, download: "labels.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  say(`${marked()} labels downloaded as labels.csv.`);
}

/** Precision with the exact 95 % interval of a binomial share (Clopper and Pearson 1934). */
function exactShare(hits, of) {
  const logs = [0];
  for (let i = 1; i <= of; i++) logs.push(logs[i - 1] + Math.log(i));
  const tail = (p, from, to) => {
    let sum = 0;
    for (let k = from; k <= to; k++) {
      sum += Math.exp(logs[of] - logs[k] - logs[of - k] + k * Math.log(p) + (of - k) * Math.log1p(-p));
    }
    return sum;
  };
  const solved = (grows, from, to) => {
    let [low, high] = [0, 1];
    for (let i = 0; i < 50; i++) {
      const middle = (low + high) / 2;
      if (tail(middle, from, to) < 0.025 === grows) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  };
  return { value: hits / of, low: hits === 0 ? 0 : solved(true, hits, of), high: hits === of ? 1 : solved(false, 0, hits) };
}

/** The labelled rows that are true or false. */
function decided() {
  return data.marks.flatMap((row, i) => (marking.labels[i] === "true" || marking.labels[i] === "false"
    ? [{ right: marking.labels[i] === "true", score: scores ? scores.cells[row] : 0 }] : []));
}

/** Precision at each strictness that makes a difference, ascending, of at least ten labels. */
function overStrictness() {
  const found = decided();
  return [...new Set(found.map(({ score }) => score))].sort((a, b) => a - b).flatMap((least) => {
    const left = found.filter(({ score }) => score >= least);
    return left.length < LEAST_KEPT ? [] : [{ least, ...exactShare(left.filter(({ right }) => right).length, left.length) }];
  });
}

/** The number with the fewest digits that keeps the same rows of the page: that of `nd-synapse evaluate`, if it has all. */
function shortest(score) {
  // as the table prints a number of 32 bits
  const least = [6, 7, 8, 9].map((digits) => Number(score.toPrecision(digits))).find((value) => Math.fround(value) === score) ?? score;
  const exponent = Number(least.toExponential().split("e")[1]);
  const below = scores.cells.reduce((most, other) => (other < score && other > most ? other : most), least - Math.abs(least) / 100);
  for (let digits = 1; digits < 17; digits++) {
    let cut = Number(least.toPrecision(digits));
    if (cut > least) cut = Number((cut - 10 ** (exponent + 1 - digits)).toPrecision(digits));
    if (Math.fround(cut) > Math.fround(below)) return cut;
  }
  return least;
}

const share = ({ value, low, high }) => `${value.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;

function showPrecision() {
  const found = decided(), unsure = marked() - found.length;
  const own = exactShare(found.filter(({ right }) => right).length, found.length);
  const text = found.length
    ? `Precision ${share(own)}: ${found.filter(({ right }) => right).length} of ${found.length} are true; ${unsure} unsure are left out. In brackets the exact 95 % interval.`
    : "Nothing is marked true or false.";
  $("mark-precision").textContent = text;
  $("mark-wanted-line").hidden = !scores;
  if (scores) {
    const wanted = Number($("mark-wanted").value);
    const reached = overStrictness().find(({ value }) => value >= wanted);
    let advice = `No strictness with at least ${LEAST_KEPT} labels reaches it.`;
    if (own.value >= wanted) advice = "The run has that precision as it is.";
    else if (reached) {
      advice = `The lowest strictness with that precision is ${shortest(reached.least)}: ${share(reached)}. It was chosen on these labels, so it flatters a little.`;
    }
    $("mark-advice").textContent = advice;
  }
  drawCurve();
}

/** How many synapses are left at a higher strictness, and, once it is revealed, the precision there. */
function drawCurve() {
  const box = $("curve");
  if (!box || !data.curve) return;
  marking.chart?.destroy();
  const points = marking.revealed && scores ? overStrictness() : [];
  const [low, high] = [data.curve.strictness[0], data.curve.strictness[data.curve.strictness.length - 1]];
  const joined = uPlot.join([[data.curve.strictness, data.curve.left],
    ...(points.length ? [[points.map(({ least }) => least), ...["value", "low", "high"].map((name) => points.map((point) => point[name]))]] : [])]);
  const line = (tint, width, scale, dash) => ({ stroke: tint, width, scale, dash, spanGaps: true, points: { show: false } });
  const orange = "#d55e00";
  const right = { ...axis("precision", 40), scale: "share", side: 1, grid: { show: false } };
  marking.chart = new uPlot({
    width: box.clientWidth, height: 240, legend: { show: false }, cursor: { drag: { x: false, y: false } },
    scales: { x: { time: false, range: [low, high] }, y: { range: (_, __, most) => [0, most * 1.05] }, share: { range: [0, 1.02] } },
    series: [{}, line(colour("--link"), 2, "y"), ...(points.length ? [line(orange, 2, "share"), line(orange, 0.5, "share", [4, 4]), line(orange, 0.5, "share", [4, 4])] : [])],
    bands: points.length ? [{ series: [4, 3], fill: "#d55e0022" }] : [],
    axes: [axis(data.strictness === null ? "score" : "strictness"), axis("synapses left", 56), ...(points.length ? [right] : [])],
    hooks: {
      setCursor: [(made) => {
        const at = made.cursor.idx;
        $("curve-reading").textContent = at === null || at === undefined ? "" : `${written(joined[0][at])}: ${nearestCount(joined[0][at])} synapses left`;
      }],
      draw: [(made) => {
        if (data.strictness === null || data.strictness < low) return;
        const x = made.valToPos(data.strictness, "x", true);
        made.ctx.save();
        made.ctx.strokeStyle = colour("--ink");
        made.ctx.setLineDash([6, 4]);
        made.ctx.beginPath();
        made.ctx.moveTo(x, made.bbox.top);
        made.ctx.lineTo(x, made.bbox.top + made.bbox.height);
        made.ctx.stroke();
        made.ctx.restore();
      }],
    },
  }, joined, box);
}

function nearestCount(least) {
  const at = data.curve.strictness.findIndex((value) => value >= least);
  return data.curve.left[at < 0 ? data.curve.left.length - 1 : at].toLocaleString("en");
}

function startMarks() {
  if (!data.marks?.length || !voxels) return;
  recall();
  $("live-marks").hidden = false;
  $("mark-start").addEventListener("click", () => {
    $("mark-panel").hidden = false;
    showMark();
    $("mark-panel").focus();
  });
  // single keys act only in the panel: elsewhere they belong to the browser and its helpers
  $("mark-panel").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const letter = event.key.toLowerCase();
    if (LABELS[letter]) mark(LABELS[letter]);
    else if (letter === "b") back();
  });
  for (const [id, label] of [["mark-true", "true"], ["mark-false", "false"], ["mark-unsure", "unsure"]]) {
    $(id).addEventListener("click", () => mark(label));
  }
  $("mark-back").addEventListener("click", back);
  $("mark-download").addEventListener("click", download);
  $("mark-reveal").addEventListener("click", () => {
    marking.revealed = true;
    $("mark-result").hidden = false;
    showPrecision();
  });
  $("mark-wanted").addEventListener("input", showPrecision);
  $("mark-clear").addEventListener("click", () => {
    if (!confirm("Forget all labels of this page?")) return;
    marking.labels = [];
    marking.at = 0;
    remember();
    showMark();
  });
  $("mark-command").textContent = `nd-synapse evaluate --labels labels.csv ${folder()}`;
  selection.listeners.push((_, from) => {
    if (from === "contrast" && !$("mark-panel").hidden && marking.at < data.marks.length) showMark();
  });
}

async function start() {
  if (matchMedia("(max-width: 40rem)").matches) { // figures scroll there, as in style.css: keys must reach them
    for (const paper of document.querySelectorAll(".paper")) paper.tabIndex = 0;
  }
  if (data.n) startTable();
  if (data.voxels) await startViewer();
  startMarks();
  drawCurve();
  if ($("curve")) {
    $("live-curve").hidden = false;
    drawCurve();
    let width = $("curve").clientWidth;
    new ResizeObserver(() => {
      if ($("curve").clientWidth !== width) drawCurve();
      width = $("curve").clientWidth;
    }).observe($("curve"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurve);
  }
  document.documentElement.dataset.live = "ready";
}

start();
