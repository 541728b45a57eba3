// The dashboard: makes pictures through the API that everybody uses, and shows the cluster's state.
import { draw, roundUp } from "/chart.js";
import { shown as showCluster } from "/cluster.js";
import { make } from "/make.js";

const byId = (id) => document.getElementById(id);

// -- theme ------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];
function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("argus-theme", name);
}
let theme = THEMES.includes(localStorage.getItem("argus-theme")) ? localStorage.getItem("argus-theme") : "auto";
setTheme(theme);
byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  setTheme(theme);
});

// -- state ------------------------------------------------------------------------------------

const HISTORY_S = 900, BIN_S = 5, SHORTEST_S = 60;
let history = []; // {at: ms of this page's clock, …sample}

function take(sample) {
  history.push({ ...sample, at: Date.now() - 1000 * sample.age_s });
}

// Means over bins of BIN_S seconds: single polls hold one picture or none.
function binned(now) {
  const bins = new Map();
  for (const sample of history) {
    const key = Math.floor(sample.at / 1000 / BIN_S);
    if (!bins.has(key)) bins.set(key, []);
    bins.get(key).push(sample);
  }
  const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);
  return [...bins].map(([key, samples]) => ({
    age: Math.max(0, now / 1000 - (key + 0.5) * BIN_S),
    offered: mean(samples.map((s) => s.offered_s)),
    onTimeRate: mean(samples.map((s) => s.on_time_s)),
    quality: mean(samples.map((s) => s.quality).filter((q) => q !== null)),
    onTime: mean(samples.map((s) => s.on_time).filter((q) => q !== null)),
  }));
}

function drawCharts() {
  const now = Date.now();
  history = history.filter((sample) => now - sample.at < 1000 * HISTORY_S);
  const bins = binned(now);
  const span = Math.min(HISTORY_S, Math.max(SHORTEST_S, ...bins.map((bin) => bin.age)));
  const line = (name, label, read) => ({ name, label, points: bins.map((bin) => [bin.age, read(bin)]) });
  const load = [line("one", "offered", (b) => b.offered), line("two", "on time", (b) => b.onTimeRate)];
  const most = Math.max(0, ...load.flatMap((s) => s.points.map(([, value]) => value ?? 0)));
  draw(byId("load"), load, { span, top: roundUp(most), format: (v) => String(+v.toPrecision(2)) });
  const shares = [line("three", "served quality", (b) => b.quality), line("four", "ended on time", (b) => b.onTime)];
  draw(byId("quality"), shares, { span, top: 1, format: (v) => v.toFixed(2).replace(/0$/, "") });
  byId("span").textContent = `the last ${Math.ceil(span / 60)} min`;
}

let redraw = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(redraw);
  redraw = requestAnimationFrame(drawCharts);
}).observe(byId("cluster"));

const source = new EventSource("/api/events");
source.addEventListener("status", (event) => {
  const message = JSON.parse(event.data);
  if (message.history) {
    history = [];
    message.history.forEach(take);
  }
  if (message.newest && message.reachable) take(message.newest);
  showCluster(message, history);
  drawCharts();
});
source.addEventListener("error", () => showCluster({ reachable: false, error: "the gateway does not answer" }, history));

make();
