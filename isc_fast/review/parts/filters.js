// Which pairs are shown, and in which order.
const state = { from: scoreLow, to: scoreHigh, text: '', sort: '', chosen: {}, list: [], at: 0, mode: 'beside', swapped: false, mirrored: false };

const sizes = [['2', (size) => size === 2], ['3–5', (size) => size >= 3 && size <= 5], ['6–20', (size) => size >= 6 && size <= 20], ['more', (size) => size > 20]];
const sizeName = (pair) => {
  const group = fact('group', pair);
  return group === null ? null : sizes.find(([, fits]) => fits(data.groups[group].size))[0];
};
const truthName = (pair) => ({ true: 'copy', false: 'no copy' })[fact('truth', pair)] ?? null;
const notJudged = 'not judged';

// Name, label, what a pair has of it. A filter that has one value only is not offered.
const facets = [
  ['verdict', 'Verdict', (pair) => verdicts.get(pair) ?? notJudged, [notJudged, ...Object.keys(words)]],
  ['set', 'Collection', (pair) => fact('set', pair)],
  ['size', 'Photos in group', sizeName, sizes.map(([name]) => name)],
  ['edit', 'Edit', (pair) => fact('edit', pair)],
  ['truth', 'Ground truth', truthName],
  ['placed', 'Pixels', (pair) => (pairs.homography ? (fact('homography', pair) ? 'align' : 'do not align') : null)],
  ['view', 'View', (pair) => fact('view', pair) ?? (pairs.view ? 'whole' : null)],
];

const order = {
  given: ['as given', null],
  high: ['highest score', (one, other) => pairs.score[other] - pairs.score[one]],
  low: ['lowest score', (one, other) => pairs.score[one] - pairs.score[other]],
  near: ['nearest to threshold', (one, other) => Math.abs(pairs.score[one] - data.threshold) - Math.abs(pairs.score[other] - data.threshold)],
  id: ['id', (one, other) => (lowered(pairs.left[one]) < lowered(pairs.left[other]) ? -1 : 1)],
};

const loweredIds = [];
const lowered = (photo) => (loweredIds[photo] ??= idOf(photo).toLowerCase());

function makeFilters() {
  for (const [name, label, value, known] of facets) {
    const found = new Set();
    for (let pair = 0; pair < pairCount; pair += 1) found.add(value(pair));
    found.delete(null);
    if (name !== 'verdict' && found.size < 2) continue;
    const field = make('label', '', label);
    const select = field.appendChild(make('select'));
    select.id = `filter-${name}`;
    select.append(new Option('all', ''), ...(known ?? [...found].sort()).filter((one) => name === 'verdict' || found.has(one)).map((one) => new Option(shown(one), one)));
    select.addEventListener('change', () => { state.chosen[name] = select.value; refresh(); });
    $('selects').append(field);
  }
  const isGrouped = data.groups.length > 0;
  for (const [name, [label]] of Object.entries(order)) {
    if (name === 'near' && data.threshold === null) continue;
    if (name === 'given' && !isGrouped) continue;
    $('sort').append(new Option(name === 'given' ? 'group' : label, name));
  }
  state.sort = $('sort').value;
  $('sort').addEventListener('change', () => { state.sort = $('sort').value; state.at = 0; state.list = []; refresh(); });
  $('search').addEventListener('input', () => { state.text = $('search').value.toLowerCase(); refresh(); });
  $('filters').addEventListener('submit', (event) => event.preventDefault());
  $('reset').addEventListener('click', showAll);
}

function showAll() {
  Object.assign(state, { from: scoreLow, to: scoreHigh, text: '', chosen: {} });
  $('filters').reset();
  resetRange();
  refresh();
}

/** The pairs that fit all filters, in order. */
function fitting() {
  const asked = facets.filter(([name]) => state.chosen[name]);
  const list = [];
  for (let pair = 0; pair < pairCount; pair += 1) {
    if (pairs.score[pair] < state.from || pairs.score[pair] > state.to) continue;
    if (!asked.every(([name, , value]) => value(pair) === state.chosen[name])) continue;
    if (state.text && !lowered(pairs.left[pair]).includes(state.text) && !lowered(pairs.right[pair]).includes(state.text)) continue;
    list.push(pair);
  }
  const compare = order[state.sort][1];
  return compare ? list.sort(compare) : list;
}

/** Show what fits now. The chosen pair stays chosen where it still fits; else the one that took its place is. */
function refresh() {
  const before = state.list[state.at];
  state.list = fitting();
  const place = before === undefined ? -1 : state.list.indexOf(before);
  state.at = Math.max(0, place >= 0 ? place : Math.min(state.at, state.list.length - 1));
  $('count').textContent = state.list.length === pairCount ? `${grouped(pairCount)} pairs` : `${grouped(state.list.length)} of ${grouped(pairCount)} pairs`;
  $('empty').hidden = state.list.length > 0;
  $('list').hidden = state.list.length === 0;
  drawList();
  drawStage();
}
