// Times: <time data-time="local"> in the reader's zone, <time data-time="relative"> as an age that stays true.
// The title of each keeps the time in UTC.

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const MAX_RELATIVE_SECONDS = 60 * 86400;
const REFRESH_MILLISECONDS = 30000;
const language = document.documentElement.lang || "en";
const absolute = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "always" });

function relativeText(date) {
  const seconds = (date - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size > MAX_RELATIVE_SECONDS) return absolute.format(date);
  for (const [unit, length] of UNITS) {
    if (size >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return seconds > 0 ? "in less than a minute" : "just now";
}

function show(root = document) {
  for (const element of root.querySelectorAll("time[data-time]")) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    const text = element.dataset.time === "relative" ? relativeText(date) : absolute.format(date);
    if (element.textContent !== text) element.textContent = text;
  }
}

show();
setInterval(show, REFRESH_MILLISECONDS);
document.addEventListener("chalk:updated", (event) => show(event.target));
