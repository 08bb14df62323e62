// Keeps the page up to date: fetches it anew, moves what has changed into place, and gives charts their new columns.
"use strict";

const REFRESH_MS = 5000;
const WAIT_MS = 15000;
const root = document.documentElement;

// BokehJS writes style elements; with the nonce of this script the policy of the page lets it.
const nonce = document.currentScript.nonce;
const createElement = document.createElement.bind(document);
document.createElement = (name, options) => {
  const element = createElement(name, options);
  if (name === "style") element.nonce = nonce;
  return element;
};

// --- theme ---------------------------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function storedTheme() {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem("theme")) ?? "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch { /* it lasts as long as the page then */ }
}

function shownTheme() {
  const theme = root.dataset.theme ?? (prefersDark.matches ? "dark" : "light");
  return theme === "dark" ? "dark" : "light";
}

setTheme(storedTheme()); // before the first paint

// --- moving the new page into place --------------------------------------------------------------------------------

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.id ? `#${node.id}` : node.nodeName;
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(old, fresh);
  if (!("keep" in old.dataset)) morphChildren(old, fresh);
}

function morphAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS") && name !== "nonce") old.removeAttribute(name);
  }
  if (old.nodeName === "OPTION" || old.nodeName === "INPUT") morphInput(old, fresh);
}

function morphInput(old, fresh) {
  // What somebody is typing, or has just chosen, stays theirs.
  const owner = old.closest("select") ?? old;
  if (owner === document.activeElement) return;
  if (old.nodeName === "OPTION") old.selected = fresh.hasAttribute("selected");
  else if (old.value !== fresh.value) old.value = fresh.value;
}

function morphChildren(old, fresh) {
  const known = new Map();
  for (const child of old.children) if (child.id) known.set(`#${child.id}`, child);
  let next = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    let match = known.get(key) ?? (next && !next.id && keyOf(next) === key ? next : null);
    if (match === null) {
      old.insertBefore(document.importNode(child, true), next);
      continue;
    }
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    morph(match, child);
  }
  while (next) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
}

// --- charts --------------------------------------------------------------------------------------------------------

const drawn = new Map(); // name -> { figure, layout, theme, views, source }
let bokeh = null;

function loadBokeh() {
  bokeh ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.bokeh;
    script.onload = () => { window.Bokeh.set_log_level("warn"); resolve(window.Bokeh); };
    script.onerror = () => { bokeh = null; reject(new Error("BokehJS cannot be loaded")); };
    document.head.append(script);
  });
  return bokeh;
}

function isCurrent(figure) {
  const known = drawn.get(figure.dataset.chart);
  return known?.figure === figure && known.layout === figure.dataset.layout && known.theme === shownTheme();
}

function forget(name) {
  const known = drawn.get(name);
  if (!known) return;
  known.views.clear();
  const documents = window.Bokeh.documents; // holds whatever was drawn until it is taken out
  documents.splice(documents.indexOf(known.source.document), 1);
  drawn.delete(name);
}

let updating = Promise.resolve();

// One after the other: two that draw the same figure would both leave a plot in it.
function updateCharts() {
  updating = updating.then(tryToUpdateCharts);
  return updating;
}

async function tryToUpdateCharts() {
  if (!document.body.dataset.bokeh) return;
  try {
    await bringChartsUpToDate();
  } catch (error) {
    console.warn(`Charts cannot be drawn: ${error.message}`);
    for (const plot of document.querySelectorAll("figure[data-chart] .plot:empty")) {
      plot.textContent = "This chart cannot be drawn now; its data is below.";
      plot.classList.add("failed");
    }
  }
}

async function bringChartsUpToDate() {
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  for (const [name, { figure }] of drawn) if (!figure.isConnected) forget(name);
  if (figures.some((figure) => !isCurrent(figure))) await drawCharts(figures);
  for (const figure of figures) {
    const known = drawn.get(figure.dataset.chart);
    if (known?.columns !== figure.dataset.columns && isCurrent(figure)) {
      known.columns = figure.dataset.columns;
      known.source.data = columnsOf(figure.dataset.columns);
    }
  }
}

// A gap is null in JSON; of numbers BokehJS wants NaN, or it would draw a 0.
function columnsOf(text) {
  const gapless = (cells) => (cells.some((cell) => typeof cell === "string") ? cells : cells.map((cell) => cell ?? NaN));
  return Object.fromEntries(Object.entries(JSON.parse(text)).map(([name, cells]) => [name, gapless(cells)]));
}

async function drawCharts(figures) {
  const address = new URL(location.href);
  const wanted = shownTheme();
  address.searchParams.set("figures", wanted);
  const [Bokeh, items] = await Promise.all([loadBokeh(), fetchText(address).then(JSON.parse)]);
  for (const figure of figures) {
    const name = figure.dataset.chart;
    const found = items[name];
    if (!found || isCurrent(figure) || !figure.isConnected) continue;
    const plot = figure.querySelector(".plot");
    forget(name);
    plot.replaceChildren();
    plot.classList.remove("failed");
    const views = await Bokeh.embed.embed_item(found.item, plot);
    passBy(plot);
    const source = views.roots[0].model.document.get_model_by_name(name);
    drawn.set(name, { figure, layout: found.layout, theme: wanted, views, source, columns: null });
  }
}

// BokehJS lets the keyboard stop at every plot, where there is nothing to do for it.
function passBy(element) {
  for (const part of [...element.querySelectorAll("*")]) {
    if (part.tabIndex === 0) part.tabIndex = -1;
    if (part.shadowRoot) passBy(part.shadowRoot);
  }
}

// --- the loop ------------------------------------------------------------------------------------------------------

let timer = null;
let asking = null; // aborts the question that is open
let isPaused = false;

async function fetchText(address, signal) {
  const response = await fetch(address, { headers: { Accept: "text/html" }, signal: signal ?? AbortSignal.timeout(WAIT_MS) });
  if (response.status >= 500) throw new Error(`the server answers ${response.status}`);
  return response.text();
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const own = (asking = new AbortController());
  const limit = setTimeout(() => own.abort(), WAIT_MS);
  try {
    const text = await fetchText(location.href, own.signal);
    if (own === asking) {
      show(new DOMParser().parseFromString(text, "text/html"));
      await updateCharts();
    }
  } catch (error) {
    if (own === asking) lose();
  } finally {
    clearTimeout(limit);
    if (own === asking) schedule();
  }
}

function show(fresh) {
  if (!fresh.getElementById("main")) throw new Error("this is another's page, such as a sign-in");
  document.body.classList.remove("stale");
  document.title = fresh.title;
  for (const id of ["main", "state"]) {
    const part = fresh.getElementById(id);
    if (part) morph(document.getElementById(id), part);
  }
}

function lose() {
  const state = document.getElementById("state");
  state.dataset.since ??= state.textContent;
  state.textContent = `No answer since ${state.dataset.since}; trying again`;
  state.classList.add("lost");
  document.body.classList.add("stale");
}

function schedule() {
  clearTimeout(timer);
  if (!isPaused && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

// --- what people do ------------------------------------------------------------------------------------------------

function go(address) {
  history.pushState(null, "", address);
  refresh();
}

function submit(form) {
  const values = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...values]) if (value === "" && name !== "baseline") values.delete(name);
  history.replaceState(null, "", `?${values}`);
  refresh();
}

function onClick(event) {
  const link = event.target.closest("a");
  const isPlain = !event.defaultPrevented && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !isPlain || link.origin !== location.origin || link.pathname !== location.pathname || link.hash) return;
  event.preventDefault();
  go(link.href);
}

let typing = null;

document.addEventListener("DOMContentLoaded", () => {
  const pause = document.getElementById("pause");
  const theme = document.getElementById("theme");
  theme.textContent = `Theme: ${storedTheme()}`;
  theme.addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length]);
    theme.textContent = `Theme: ${root.dataset.theme ?? "auto"}`;
    updateCharts();
  });
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    if (isPaused) schedule();
    else refresh();
  });
  prefersDark.addEventListener("change", updateCharts);
  document.addEventListener("click", onClick);
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-live]");
    if (!form) return;
    clearTimeout(typing);
    typing = setTimeout(() => submit(form), 150);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-live]")) return;
    event.preventDefault();
    submit(event.target);
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : isPaused || refresh()));
  addEventListener("popstate", refresh);
  updateCharts().finally(schedule);
});
