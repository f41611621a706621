// Disclosures with data-confirm become modal dialogs. Without this script they open below their button.

let number = 0;

function toDialog(details) {
  const panel = details.querySelector("[data-confirm-panel]");
  const summary = details.querySelector("summary");
  const button = document.createElement("button");
  button.type = "button";
  button.className = summary.className;
  button.textContent = summary.textContent;
  button.setAttribute("aria-haspopup", "dialog");

  const dialog = document.createElement("dialog");
  const heading = document.createElement("h2");
  heading.id = `confirm-${++number}`;
  heading.textContent = panel.dataset.confirmLabel;
  dialog.setAttribute("aria-labelledby", heading.id);
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.className = "button button-secondary";
  cancel.textContent = "Cancel";
  cancel.addEventListener("click", () => dialog.close());
  panel.querySelector(".form-actions").append(cancel);
  panel.removeAttribute("hidden");
  dialog.append(heading, panel);

  button.addEventListener("click", () => {
    dialog.showModal();
    (panel.querySelector("input:not([type=hidden]), select, textarea") ?? cancel).focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => button.focus());
  details.replaceWith(button, dialog);
}

for (const details of document.querySelectorAll("details[data-confirm]")) {
  toDialog(details);
}
