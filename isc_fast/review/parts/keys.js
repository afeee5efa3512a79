// The keyboard. Letters count wherever no text is typed; arrows also where a slider or a list of choices does not use them.
const keyActions = {
  j: () => choose(state.at + 1), ArrowRight: () => choose(state.at + 1), ArrowDown: () => choose(state.at + 1),
  k: () => choose(state.at - 1), ArrowLeft: () => choose(state.at - 1), ArrowUp: () => choose(state.at - 1),
  Home: () => choose(0), End: () => choose(state.list.length - 1),
  PageDown: () => choose(Math.min(state.at + 8, state.list.length - 1)), PageUp: () => choose(Math.max(state.at - 8, 0)),
  r: () => judgeChosen('right'), w: () => judgeChosen('wrong'), u: () => judgeChosen('undecided'), 0: () => judgeChosen(null),
  b: () => setMode('beside'), s: () => setMode('swap'), o: () => setMode('overlay'), d: () => setMode('difference'), m: mirror,
  '/': () => $('search').focus(), '?': () => $('keys').showModal(),
};
const scrolling = new Set(['Home', 'End', 'PageDown', 'PageUp']);

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $('keys').open) return;
  const place = event.target;
  const types = place.matches('input[type=search], input[type=text]');
  if (event.key === 'Escape' && types) { place.blur(); $('list').focus(); return; }
  if (types || place.matches('select')) return;
  if (place.matches('input[type=range]') && event.key.length > 1) return;
  if (scrolling.has(event.key) && place !== $('list')) return; // elsewhere they scroll the page
  const action = keyActions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function makeKeys() {
  document.addEventListener('keydown', onKey);
  $('help').addEventListener('click', () => $('keys').showModal());
  $('previous').addEventListener('click', () => choose(state.at - 1));
  $('next').addEventListener('click', () => choose(state.at + 1));
  for (const button of $('judge').children) button.addEventListener('click', () => judgeChosen(button.dataset.word));
  for (const button of $('modes').children) button.addEventListener('click', () => setMode(button.dataset.mode));
  $('mirror').addEventListener('click', mirror);
  $('blend').addEventListener('input', () => drawPictures(state.list[state.at]));
  $('save-json').addEventListener('click', saveJson);
  $('save-csv').addEventListener('click', saveCsv);
  $('load').addEventListener('click', () => $('load-file').click());
  $('load-file').addEventListener('change', () => { if ($('load-file').files[0]) load($('load-file').files[0]); $('load-file').value = ''; });
}
