// Theme buttons change the page at once; the server keeps the choice in a cookie.

const form = document.querySelector("[data-theme-form]");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter;
  const data = new FormData(form, button);
  const response = await fetch(form.action, { method: "POST", body: data, redirect: "manual" });
  if (response.type !== "opaqueredirect" && !response.ok) {
    location.reload();
    return;
  }
  if (button.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = button.value;
  for (const each of form.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button));
});
