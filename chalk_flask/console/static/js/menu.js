// The menu of phones closes with Escape.

const menu = document.querySelector("[data-menu]");
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu?.open) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
