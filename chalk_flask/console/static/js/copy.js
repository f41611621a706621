// Buttons with data-copy="ID" copy the text of that element, and say so to screen readers.

const SHOWN_MILLISECONDS = 2500;

async function copy(button) {
  const text = document.getElementById(button.dataset.copy)?.innerText.trim();
  const label = button.querySelector("[data-copy-label]");
  const status = button.nextElementSibling;
  const former = label.textContent;
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
  } catch {
    select(document.getElementById(button.dataset.copy));
    label.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  }
  status.textContent = label.textContent;
  setTimeout(() => { label.textContent = former; status.textContent = ""; }, SHOWN_MILLISECONDS);
}

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button && !button.dataset.busy) {
    button.dataset.busy = "true";
    copy(button).finally(() => setTimeout(() => delete button.dataset.busy, SHOWN_MILLISECONDS));
  }
});
