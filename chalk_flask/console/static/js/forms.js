// Forms: send once, move the focus to errors, show parts that belong to a choice, and filter long lists of choices.

// The server ignores a second submission too; this only avoids the wait.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-submit-once]") || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "true";
  form.setAttribute("aria-busy", "true");
});
// The back button may show a page as it was left, with a secret or a state that is out of date.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.removeAttribute("aria-busy");
  }
});

document.querySelector("[data-focus]")?.focus();

// data-shown-with="VALUE", "NAME=VALUE" or "NAME=VALUE|VALUE": visible while a checkbox or a select of the same form has the value.
function isChosen(form, rule) {
  const [name, value] = rule.includes("=") ? rule.split("=") : [null, rule];
  if (value.includes("|")) return value.split("|").some((each) => isChosen(form, `${name}=${each}`));
  const selects = name ? [...form.elements].filter((each) => each.name === name) : [...form.elements];
  return selects.some((each) => each.value === value && (each.type === "checkbox" || each.type === "radio" ? each.checked : each.tagName === "SELECT"));
}
for (const part of document.querySelectorAll("[data-shown-with]")) {
  const form = part.closest("form");
  const update = () => { part.hidden = !isChosen(form, part.dataset.shownWith); };
  form.addEventListener("change", update);
  update();
}

// data-filter-choices="LABEL": a search field above a long list of checkboxes.
const MIN_FILTERED_CHOICES = 9;
for (const [number, field] of [...document.querySelectorAll("[data-filter-choices]")].entries()) {
  const choices = [...field.querySelectorAll(".choice")];
  if (choices.length < MIN_FILTERED_CHOICES) continue;
  const label = document.createElement("label");
  label.className = "visually-hidden";
  label.htmlFor = `filter-choices-${number}`;
  label.textContent = field.dataset.filterChoices;
  const input = document.createElement("input");
  input.type = "search";
  input.id = label.htmlFor;
  input.placeholder = field.dataset.filterChoices;
  input.addEventListener("input", () => {
    const text = input.value.trim().toLowerCase();
    for (const choice of choices) choice.hidden = !choice.textContent.toLowerCase().includes(text);
  });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  (field.querySelector(".choices") ?? choices[0]).before(label, input);
}
