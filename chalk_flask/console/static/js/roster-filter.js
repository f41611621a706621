// Completion of filters, word by word: the list of the input offers the whole text with its last clause continued.
const MAX_OPTIONS = 30;

function continuations(clause, fields) {
  const match = /^([\w.]*)\s*(!=|>=|<=|=|>|<|~)?\s*(.*)$/.exec(clause);
  const [, name, predicate, value] = match ?? ["", "", "", ""];
  const field = fields.find((candidate) => candidate.name === name);
  if (!predicate) {
    const named = fields.filter((candidate) => candidate.name.toLowerCase().startsWith(name.toLowerCase()));
    return named.flatMap((candidate) => (candidate.name === name || named.length === 1 ? candidate.predicates.map((sign) => `${candidate.name}${sign}'`) : [candidate.name]));
  }
  if (/^'.*'$/.test(value)) return [`${clause.trim()} AND `, `${clause.trim()} OR `];
  const typed = value.replace(/^'/, "").toLowerCase();
  return (field?.values ?? []).filter((token) => token.toLowerCase().startsWith(typed)).map((token) => `${name}${predicate}'${token}'`);
}

for (const input of document.querySelectorAll("[data-filter-fields]")) {
  const fields = JSON.parse(input.dataset.filterFields);
  const list = input.list;
  const update = () => {
    const split = /^(.*' (?:AND|OR) )?(.*)$/.exec(input.value);
    const before = split?.[1] ?? "";
    const found = continuations(split?.[2] ?? "", fields).filter((text) => !before || !/ (AND|OR) $/.test(text));
    list.replaceChildren(...found.slice(0, MAX_OPTIONS).map((text) => {
      const option = document.createElement("option");
      option.value = before + text;
      return option;
    }));
  };
  input.addEventListener("input", update);
  input.addEventListener("focus", update);
}
