// Shows the OpenAPI document. A token that a reader enters stays in the memory of the page.
const api = document.getElementById("api");
const dark = matchMedia("(prefers-color-scheme: dark)");

function useColorScheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

useColorScheme();
dark.addEventListener("change", useColorScheme);

window.SwaggerUIBundle({
  url: api.dataset.url,
  domNode: api,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayOperationId: true,
  docExpansion: "none",
  filter: true,
  validatorUrl: null, // otherwise it would ask a service on the internet
});
