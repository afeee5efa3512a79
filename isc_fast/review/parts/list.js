// The list of pairs. Only the rows that are seen exist.
const rowHeight = 76;
const around = 12; // rows beyond the edges
const enough = 3; // so many are left beyond an edge when the next ones are drawn: what a frame costs is once for all its rows
const rows = new Map(); // place in the list → element
const spare = [];
let drawn = [0, 0]; // the first of these rows, and the one behind the last

function drawList() {
  for (const place of [...rows.keys()]) putAway(place);
  $('rows').style.height = `${state.list.length * rowHeight}px`;
  toPlace(state.at);
  drawRows();
}

/** Draw the rows that are seen, and some around them. */
function drawRows() {
  const [first, last] = seenRows(around);
  drawn = [first, last];
  for (const place of [...rows.keys()]) {
    if (place < first || place >= last) putAway(place);
  }
  for (let place = first; place < last; place += 1) {
    if (!rows.has(place)) {
      const row = spare.pop() ?? newRow();
      rows.set(place, row);
      fill(row, place);
    }
  }
  markChosen();
}

/** The first row that is seen and the one behind the last, with so many more on both sides, as far as the list goes. */
function seenRows(more) {
  const view = $('list');
  const first = Math.floor(view.scrollTop / rowHeight) - more;
  const last = Math.ceil((view.scrollTop + view.clientHeight) / rowHeight) + more;
  return [Math.max(0, first), Math.min(state.list.length, last)];
}

function putAway(place) {
  const row = rows.get(place);
  row.hidden = true;
  row.removeAttribute('id'); // another row may show its pair
  spare.push(row);
  rows.delete(place);
}

function newRow() {
  const row = $('row').content.firstElementChild.cloneNode(true);
  [row.one, row.other] = row.querySelectorAll('img');
  [row.id1, row.id2] = row.querySelectorAll('.id');
  row.chips = row.querySelector('.chips');
  row.score = row.querySelector('.row-score');
  row.addEventListener('click', () => choose(row.place));
  return $('rows').appendChild(row);
}

function fill(row, place) {
  const pair = state.list[place];
  row.place = place;
  row.id = `pair-${pair}`;
  row.hidden = false;
  row.style.transform = `translateY(${place * rowHeight}px)`;
  row.setAttribute('aria-posinset', place + 1);
  row.setAttribute('aria-setsize', state.list.length);
  const group = fact('group', pair);
  row.classList.toggle('begins', state.sort === 'given' && place > 0 && group !== fact('group', state.list[place - 1]));
  showIn(row.one, pairs.left[pair]);
  showIn(row.other, pairs.right[pair]);
  writeId(row.id1, shown(idOf(pairs.left[pair])));
  writeId(row.id2, shown(idOf(pairs.right[pair])));
  row.score.textContent = fixed(pairs.score[pair]);
  row.chips.replaceChildren(...chipsOf(pair, true));
}

const endLetters = 16; // of an id, that are seen however narrow the list is: ids differ at their ends more often than at their beginnings
const rightToLeft = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;

/** Write an id into an element of two parts, of which the first one is cut where there is no room. */
function writeId(element, text) {
  let cut = rightToLeft.test(text) ? text.length : Math.max(0, text.length - endLetters);
  if (/[\udc00-\udfff]/.test(text[cut] ?? '')) cut += 1; // not within a character
  element.firstChild.textContent = text.slice(0, cut);
  element.lastChild.textContent = text.slice(cut);
}

/** What is known of a pair, as small labels; in few words for the list. */
function chipsOf(pair, short = false) {
  const chips = [];
  const verdict = verdicts.get(pair);
  if (verdict) chips.push(make('span', `chip ${verdict}`, words[verdict]));
  const truth = fact('truth', pair);
  if (truth !== null) chips.push(make('span', `chip ${truth}`, truth ? '✓ copy' : '✗ no copy'));
  const group = fact('group', pair);
  if (group !== null) chips.push(make('span', 'chip', `group ${group + 1}${short ? '' : ` · ${data.groups[group].size} photos`}`));
  for (const name of ['set', 'edit', 'view', 'note']) {
    if (fact(name, pair) !== null) chips.push(make('span', 'chip', shown(fact(name, pair))));
  }
  if (fact('inliers', pair) !== null) chips.push(make('span', 'chip', short ? 'aligned' : `${fact('inliers', pair)} features agree`));
  return chips;
}

function markChosen() {
  for (const [place, row] of rows) {
    const now = String(place === state.at);
    if (row.getAttribute('aria-selected') !== now) row.setAttribute('aria-selected', now);
  }
  const chosen = rows.get(state.at);
  if (!chosen) $('list').removeAttribute('aria-activedescendant');
  else if ($('list').getAttribute('aria-activedescendant') !== chosen.id) $('list').setAttribute('aria-activedescendant', chosen.id);
}

/** Scroll as little as is needed to see a place. */
function toPlace(place) {
  const view = $('list');
  const top = place * rowHeight;
  if (top < view.scrollTop) view.scrollTop = top;
  else if (top + rowHeight > view.scrollTop + view.clientHeight) view.scrollTop = top + rowHeight - view.clientHeight;
}

function makeList() {
  let waits = false;
  const soon = () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      const [first, last] = seenRows(enough);
      if (first < drawn[0] || last > drawn[1]) drawRows();
    });
  };
  $('list').addEventListener('scroll', soon, { passive: true });
  new ResizeObserver(soon).observe($('list'));
}
