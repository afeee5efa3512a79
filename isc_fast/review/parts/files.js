// Verdict files, which isc-fast reads: docs/review.md has their form.
const fileFormat = 'isc-fast verdicts';
const columns = ['query_id', 'reference_id', 'verdict', 'score', 'set'];

function* verdictRows() {
  for (const [pair, word] of [...verdicts].sort((one, other) => one[0] - other[0])) {
    const row = { query_id: idOf(pairs.left[pair]), reference_id: idOf(pairs.right[pair]), verdict: word, score: pairs.score[pair] };
    if (fact('set', pair) !== null) row.set = fact('set', pair);
    yield row;
  }
}

function download(text, type, name) {
  const link = make('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`${grouped(verdicts.size)} verdicts saved as ${name}`);
}

function saveJson() {
  const rows = [...verdictRows()].map((row) => `  ${JSON.stringify(row)}`).join(',\n');
  const head = `{"format": ${JSON.stringify(fileFormat)}, "version": 1, "page": ${JSON.stringify(data.digest)}, "verdicts": [`;
  download(`${head}\n${rows}\n]}\n`, 'application/json', 'verdicts.json');
}

function saveCsv() {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = [...verdictRows()].map((row) => columns.map((name) => field(String(row[name] ?? ''))).join(','));
  const text = [columns.join(','), ...rows, ''].join('\n');
  if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)) {
    notice('An id is not UTF-8, which a CSV from a browser cannot hold. Save the verdicts as JSON.');
    return;
  }
  download(text, 'text/csv', 'verdicts.csv');
}

/** The records of a CSV with a header. */
function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r\n|\n|\r|$)/g)) {
    if (quoted === undefined && plain === '' && end === '' && rows.at(-1).length === 0) break;
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ',') rows.push([]);
  }
  const [header, ...others] = rows.filter((row) => row.length);
  return others.map((row) => Object.fromEntries(header.map((name, place) => [name, row[place]])));
}

const nameOf = (row) => JSON.stringify([row.set || null, String(row.query_id), String(row.reference_id)]);

/** Take in the verdicts of a file, in the place of those of the same pairs. */
async function load(file) {
  let rows;
  try {
    const text = (await file.text()).replace(/^\ufeff/, '');
    if (text.trimStart().startsWith('{')) {
      const found = JSON.parse(text);
      if (found.format !== fileFormat || !Array.isArray(found.verdicts)) throw new Error();
      rows = found.verdicts;
    } else {
      rows = parseCsv(text);
    }
    if (!rows.every((row) => row && row.query_id !== undefined && isWord(row.verdict))) throw new Error();
  } catch {
    notice(`${file.name} is no file of verdicts: expected what “Save verdicts” writes.`);
    return;
  }
  const places = new Map();
  for (let pair = 0; pair < pairCount; pair += 1) {
    const row = { set: fact('set', pair), query_id: idOf(pairs.left[pair]), reference_id: idOf(pairs.right[pair]) };
    places.set(nameOf(row), pair);
  }
  let taken = 0;
  for (const row of rows) {
    const pair = places.get(nameOf(row));
    if (pair !== undefined) { verdicts.set(pair, row.verdict); taken += 1; }
  }
  keep();
  showTally();
  refresh();
  const others = rows.length - taken;
  notice(`${grouped(taken)} verdicts loaded from ${file.name}${others ? `; ${grouped(others)} are on pairs that this page does not show` : ''}.`);
}
