// Upload of a package: drag and drop, progress, and errors without leaving the page. Without this script, the form
// posts as usual.

const form = document.getElementById("upload-form");
const zone = form.querySelector("[data-drop-zone]");
const input = form.querySelector('input[type="file"]');
const submit = form.querySelector('button[type="submit"]');
const nameText = zone.querySelector("[data-drop-name]");
const progressBox = form.querySelector("[data-upload-progress]");
const bar = progressBox.querySelector("progress");
const text = progressBox.querySelector("[data-upload-text]");
const errorBox = document.querySelector("[data-upload-error]");
const maxBytes = Number(zone.dataset.maxBytes);
let request = null;

function formatBytes(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value.toFixed(unit && value < 100 ? 1 : 0)} ${units[unit]}`;
}

function showError(message) {
  errorBox.textContent = message;
  errorBox.hidden = false;
  errorBox.focus();
}

function clearError() {
  errorBox.hidden = true;
  errorBox.textContent = "";
}

function showFile() {
  const file = input.files[0];
  nameText.textContent = file ? `${file.name} (${formatBytes(file.size)})` : "";
  clearError();
}

function checkFile() {
  const file = input.files[0];
  if (!file) return "Choose a ZIP file.";
  if (file.size > maxBytes) return `This file is larger than ${zone.dataset.maxText}. Nothing was uploaded.`;
  return "";
}

function setUploading(isUploading) {
  progressBox.hidden = !isUploading;
  submit.disabled = isUploading;
  zone.classList.toggle("is-uploading", isUploading);
}

function showProgress(event) {
  if (!event.lengthComputable) { bar.removeAttribute("value"); return; }
  const share = event.loaded / event.total;
  bar.value = share;
  const percent = Math.floor(share * 100);
  const done = share >= 1 ? "The service checks the file." : `${percent} % of ${formatBytes(event.total)}`;
  // Announce a few steps only, so that a screen reader is not flooded.
  if (share >= 1 || text.dataset.step !== String(Math.floor(percent / 10))) text.textContent = done;
  text.dataset.step = String(Math.floor(percent / 10));
}

function finish() {
  const answer = request;
  request = null;
  if (answer.status === 201) {
    location.assign(JSON.parse(answer.responseText).location);
    return;
  }
  if (answer.status < 400 && answer.responseURL) { location.assign(answer.responseURL); return; }
  setUploading(false);
  if (answer.status === 401) { location.assign(form.action); return; }
  let message = "";
  try { message = JSON.parse(answer.responseText).message; } catch { message = ""; }
  showError(message || `The upload failed (status ${answer.status}). Nothing was changed. Try again.`);
}

function fail(message) {
  request = null;
  setUploading(false);
  showError(message);
}

function send(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
  const problem = checkFile();
  if (problem) { showError(problem); return; }
  clearError();
  request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.upload.addEventListener("progress", showProgress);
  request.addEventListener("load", finish);
  request.addEventListener("error", () => fail("The connection was lost. Nothing was changed. Try again."));
  request.addEventListener("abort", () => fail("The upload was canceled. Nothing was changed."));
  bar.value = 0;
  text.textContent = "The upload has begun.";
  setUploading(true);
  request.send(new FormData(form));
}

function drop(event) {
  event.preventDefault();
  zone.classList.remove("is-over");
  if (request || !event.dataTransfer || event.dataTransfer.files.length === 0) return;
  if (event.dataTransfer.files.length > 1) { showError("Drop one ZIP file, not several."); return; }
  input.files = event.dataTransfer.files;
  showFile();
}

zone.querySelector("[data-drop-hint]").hidden = false;
zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("is-over"); });
zone.addEventListener("dragleave", () => zone.classList.remove("is-over"));
zone.addEventListener("drop", drop);
// A file that misses the zone must not replace the page.
for (const type of ["dragover", "drop"]) window.addEventListener(type, (event) => event.preventDefault());
input.addEventListener("change", showFile);
form.addEventListener("submit", send, { capture: true });
progressBox.querySelector("[data-upload-cancel]").addEventListener("click", () => request?.abort());
window.addEventListener("pageshow", () => { if (!request) { setUploading(false); showFile(); } });
