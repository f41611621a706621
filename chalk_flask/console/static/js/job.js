// Progress of a job: asks for it once per second, and opens the result when the job has ended.

const INTERVAL_MILLISECONDS = 1000;
const RETRY_MILLISECONDS = 5000;

const card = document.querySelector("[data-job]");
const list = card.querySelector("[data-phases]");
const waiting = card.querySelector("[data-job-waiting]");
const status = card.querySelector("[data-job-status]");
let announced = "";

function announce(message) {
  if (message !== announced) { announced = message; status.textContent = message; }
}

function phaseItem(phase) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const bar = document.createElement("progress");
  const count = document.createElement("span");
  name.className = "phase-name";
  name.textContent = phase.label;
  bar.setAttribute("aria-label", phase.label);
  count.className = "phase-count";
  count.textContent = phase.count.toLocaleString("en-US");
  if (!phase.isCurrent) {
    bar.max = 1;
    bar.value = 1;
  } else {
    item.setAttribute("aria-current", "step");
    if (phase.total) {
      bar.max = phase.total;
      bar.value = phase.count;
      count.textContent += ` of about ${phase.total.toLocaleString("en-US")}`;
    }
  }
  item.append(name, bar, count);
  return item;
}

function show(job) {
  const hasPhases = job.phases.length > 0;
  waiting.hidden = hasPhases;
  waiting.textContent = job.state === "queued" ? "Waiting for its turn." : "Starting.";
  list.replaceChildren(...job.phases.map(phaseItem));
  announce(hasPhases ? job.phases[job.phases.length - 1].label : waiting.textContent);
}

async function poll() {
  let delay = INTERVAL_MILLISECONDS;
  try {
    const response = await fetch(card.dataset.progressUrl, { headers: { Accept: "application/json" } });
    if (response.status === 401 || response.status === 404) { location.reload(); return; }
    if (!response.ok) throw new Error(String(response.status));
    const job = await response.json();
    if (!job.isActive) { announce("The job has ended."); location.replace(job.location); return; }
    show(job);
  } catch {
    delay = RETRY_MILLISECONDS; // the server restarts, or the connection is lost: the job continues
  }
  setTimeout(poll, delay);
}

setTimeout(poll, INTERVAL_MILLISECONDS);
