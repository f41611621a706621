// Reload the page when the analysis of the roster is complete.
const POLL_MILLISECONDS = 1000;
const MAX_POLLS = 120;
const place = document.querySelector("[data-quality-state]");

async function poll(left) {
  const response = await fetch(place.dataset.qualityState, { headers: { Accept: "application/json" } });
  if (!response.ok) return;
  if ((await response.json()).current) location.reload();
  else if (left > 0) setTimeout(() => poll(left - 1), POLL_MILLISECONDS);
}

if (place) setTimeout(() => poll(MAX_POLLS), POLL_MILLISECONDS);
