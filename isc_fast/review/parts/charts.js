// The histogram behind the slider, and the curve of precision and recall.
const bins = 48;
const span = scoreHigh - scoreLow || 1;
const binOf = (score) => Math.min(bins - 1, Math.floor(((score - scoreLow) / span) * bins));

function makeRange() {
  const counts = new Array(bins).fill(0);
  for (const score of pairs.score) counts[binOf(score)] += 1;
  const most = Math.max(...counts);
  const width = 400 / bins;
  counts.forEach((count, bin) => {
    const height = count ? Math.max(2, (count / most) * 60) : 0;
    svg('rect', { class: 'bar', x: bin * width + 0.75, width: width - 1.5, y: 62 - height, height }, $('histogram'));
  });
  svg('line', { class: 'base', x1: 0, x2: 400, y1: 62.5, y2: 62.5 }, $('histogram'));
  if (data.threshold !== null && data.threshold >= scoreLow && data.threshold <= scoreHigh) {
    const x = ((data.threshold - scoreLow) / span) * 400;
    svg('line', { class: 'mark', x1: x, x2: x, y1: 0, y2: 62 }, $('histogram'));
  }
  for (const name of ['from', 'to']) {
    Object.assign($(name), { min: 0, max: 1000, step: 1 });
    $(name).addEventListener('input', () => { readRange(name); refresh(); });
  }
  resetRange();
}

function resetRange() {
  $('from').value = 0;
  $('to').value = 1000;
  readRange('to');
}

/** Take the scores from the two sliders. The one that is moved does not pass the other. */
function readRange(moved) {
  const [low, high] = [Number($('from').value), Number($('to').value)];
  if (low > high) $(moved).value = moved === 'from' ? high : low;
  const score = (name) => scoreLow + (Number($(name).value) / 1000) * span;
  state.from = Number($('from').value) === 0 ? scoreLow : score('from');
  state.to = Number($('to').value) === 1000 ? scoreHigh : score('to');
  $('range-words').textContent = `${fixed(state.from)} to ${fixed(state.to)}`;
  for (const name of ['from', 'to']) $(name).setAttribute('aria-valuetext', fixed(name === 'from' ? state.from : state.to));
  $('from').style.zIndex = Number($('from').value) > 500 ? 2 : 1; // so that it can be taken where both meet at the right end
  [...$('histogram').querySelectorAll('.bar')].forEach((bar, bin) => {
    bar.classList.toggle('in', scoreLow + ((bin + 1) / bins) * span > state.from && scoreLow + (bin / bins) * span <= state.to);
  });
  drawHere();
}

// The curve's plot: left, top, width and height.
const plot = [44, 28, 380, 258];
const plotX = (recall) => plot[0] + recall * plot[2];
const plotY = (precision) => plot[1] + (1 - precision) * plot[3];

function makeCurve() {
  const place = $('curve');
  if (!place) return;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg('line', { class: 'grid', x1: plotX(0), x2: plotX(1), y1: plotY(share), y2: plotY(share) }, place);
    svg('line', { class: 'grid', x1: plotX(share), x2: plotX(share), y1: plotY(0), y2: plotY(1) }, place);
    svg('text', { x: plotX(0) - 8, y: plotY(share) + 4, 'text-anchor': 'end' }, place).textContent = share;
    svg('text', { x: plotX(share), y: plotY(0) + 18, 'text-anchor': 'middle' }, place).textContent = share;
  }
  svg('text', { x: plotX(1), y: plotY(0) + 36, 'text-anchor': 'end' }, place).textContent = 'recall';
  svg('text', { x: 8, y: 14 }, place).textContent = 'precision';
  const points = data.curve.recall.map((recall, i) => `${plotX(recall).toFixed(1)},${plotY(data.curve.precision[i]).toFixed(1)}`);
  svg('polyline', { class: 'line', points: points.join(' ') }, place);
  svg('circle', { class: 'dot', id: 'here', r: 6 }, place);
  svg('text', { class: 'here', id: 'here-words' }, place);
  drawHere();
}

/** Mark the point of the curve at the lowest score shown; before the slider is moved, at the threshold. */
function drawHere() {
  if (!data.curve || !$('here')) return;
  const score = state.from > scoreLow || data.threshold === null ? state.from : data.threshold;
  let at = -1;
  while (at + 1 < data.curve.score.length && data.curve.score[at + 1] >= score - 1e-6) at += 1;
  if (at < 0) return;
  const [precision, recall] = [data.curve.precision[at], data.curve.recall[at]];
  const [x, y] = [plotX(recall), plotY(precision)];
  for (const [name, value] of [['cx', x], ['cy', y]]) $('here').setAttribute(name, value);
  const end = recall > 0.6;
  for (const [name, value] of [['x', x + (end ? -12 : 12)], ['y', y + 22], ['text-anchor', end ? 'end' : 'start']]) $('here-words').setAttribute(name, value);
  $('here-words').textContent = fixed(score);
  const text = `At ${fixed(score)} or above: precision ${(precision * 100).toFixed(1)} %, recall ${(recall * 100).toFixed(1)} %`;
  $('reading').textContent = text;
  $('reading').hidden = false;
  $('curve-title').textContent = `Curve of precision over recall. ${text}`;
}
