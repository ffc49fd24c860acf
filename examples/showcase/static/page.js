"use strict";

const element = (id) => document.getElementById(id);
const show = (id, value) => { element(id).textContent = value; };
const bytes = (size) => size < 1e6 ? `${size.toLocaleString()} bytes` : `${(size / 1e6).toFixed(1)} MB`;

// Live stream

// Browsers open six connections to a server; two are left for pages and uploads.
const MOST_STREAMS = 4;
const streams = [];

function showTick(message) {
  const tick = JSON.parse(message.data);
  show("live-time", tick.time);
  show("live-number", tick.number);
  show("live-thread", tick.thread);
  show("live-open", tick.open);
  show("live-hashed", bytes(tick.hashed));
  for (const [name, value] of Object.entries(tick.stats)) show(`stats-${name}`, value);
}

function showState(text, on) {
  // A status is read out when it changes, so it is not written again unchanged.
  if (element("live-state").textContent !== text) show("live-state", text);
  element("live-state").classList.toggle("on", on);
}

function showButtons() {
  element("live-more").disabled = streams.length >= MOST_STREAMS;
  element("live-less").disabled = streams.length <= 1;
}

function openStream() {
  const stream = new EventSource(document.body.dataset.ticks);
  streams.push(stream);
  if (streams.length === 1) {
    stream.onopen = () => showState("live", true);
    stream.onmessage = showTick;
    stream.onerror = () => showState("reconnecting", false);
  }
  showButtons();
}

element("live-more").onclick = openStream;
element("live-less").onclick = () => { streams.pop().close(); showButtons(); };
openStream();

// Upload

// The browser's own digest needs the whole file in memory.
const MOST_CHECKED_BYTES = 256e6;
let upload = null;

async function browserDigest(blob) {
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function showDigest(blob, answer) {
  const lines = [`${bytes(answer.size)}\nSHA-256 ${answer.sha256}`];
  if (crypto.subtle && blob.size <= MOST_CHECKED_BYTES) {
    const same = await browserDigest(blob) === answer.sha256;
    lines.push(same ? "✓ your browser gets the same" : "✗ your browser gets something else");
  }
  show("digest-result", lines.join("\n"));
}

function send(blob) {
  upload?.abort();
  const request = upload = new XMLHttpRequest();
  const finish = (text) => {
    if (upload !== request) return;
    upload = null;
    element("digest-stop").disabled = true;
    show("digest-result", text);
  };
  element("digest-stop").disabled = false;
  element("digest-progress").value = 0;
  show("digest-result", `sending ${bytes(blob.size)} …`);
  request.upload.onprogress = (event) => { element("digest-progress").value = event.loaded / blob.size; };
  request.onload = () => {
    finish(`The server answered ${request.status}.`);
    if (request.status === 200) showDigest(blob, request.response);
  };
  request.onerror = () => finish("The connection broke.");
  request.onabort = () => finish("Stopped.");
  request.open("PUT", document.body.dataset.digest);
  request.responseType = "json";
  request.send(blob);
}

element("digest").onsubmit = (event) => {
  event.preventDefault();
  const [file] = element("file").files;
  if (file) send(file);
  else show("digest-result", "Choose a file first, or send noise.");
};
element("digest-sample").onclick = () => {
  const block = crypto.getRandomValues(new Uint8Array(64000));
  send(new Blob(Array(1000).fill(block)));
};
element("digest-stop").onclick = () => upload?.abort();
