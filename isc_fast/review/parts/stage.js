// The chosen pair: its two pictures, what is known of it, its group, and its verdict.
function drawStage() {
  const pair = state.list[state.at];
  $('stage').hidden = pair === undefined;
  if (pair === undefined) return;
  drawPictures(pair);
  drawFacts(pair);
  drawStrip(pair);
  const verdict = verdicts.get(pair);
  for (const button of $('judge').children) button.setAttribute('aria-pressed', button.dataset.word === verdict);
  for (const button of $('modes').children) button.setAttribute('aria-pressed', button.dataset.mode === state.mode);
  $('previous').disabled = state.at === 0;
  $('next').disabled = state.at === state.list.length - 1;
}

function figureOf(pair, side) {
  const photo = pairs[side ? 'right' : 'left'][pair];
  const figure = make('figure');
  const frame = figure.appendChild(make('div', 'frame'));
  const name = shown(idOf(photo));
  if (hasPicture(photo)) {
    const image = frame.appendChild(make('img'));
    image.alt = `${data.sides[side]} ${name}`;
    image.src = addressOf(photo);
  } else {
    frame.append(make('p', 'none', 'no picture'));
  }
  const caption = figure.appendChild(make('figcaption'));
  caption.append(make('span', '', data.sides[side]), make('bdi', '', name));
  return figure;
}

function drawPictures(pair) {
  const both = hasPicture(pairs.left[pair]) && hasPicture(pairs.right[pair]);
  const mixed = both && (state.mode === 'overlay' || state.mode === 'difference');
  const placed = fact('homography', pair) !== null;
  $('mirror').hidden = !mixed || placed;
  $('mirror').setAttribute('aria-pressed', state.mirrored);
  $('blend-field').hidden = !(mixed && state.mode === 'overlay');
  if (state.mode === 'swap') {
    $('compared').replaceChildren(figureOf(pair, state.swapped ? 1 : 0));
  } else if (mixed) {
    const figure = make('figure');
    const canvas = figure.appendChild(make('div', 'frame')).appendChild(make('canvas'));
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', state.mode === 'overlay' ? 'One picture over the other' : 'What differs between the two pictures');
    const caption = figure.appendChild(make('figcaption'));
    const [one, other] = [make('bdi', '', shown(idOf(pairs.left[pair]))), make('bdi', '', shown(idOf(pairs.right[pair])))];
    if (state.mode === 'difference') caption.append(one, ' minus ', other);
    else if (placed) caption.append(other, ' laid over ', one);
    else caption.append(one, ' over ', other);
    if (placed) caption.append(make('span', 'key', state.mode === 'difference' ? 'edges of the latter' : 'its edges'));
    $('compared').replaceChildren(figure);
    drawBoth(canvas, pair, state.mode, $('blend').value / 100);
  } else {
    $('compared').replaceChildren(figureOf(pair, 0), figureOf(pair, 1));
  }
}

function drawFacts(pair) {
  const chance = fact('probability', pair);
  const facts = [make('span', 'score', fixed(pairs.score[pair]))];
  if (chance !== null) facts.push(make('span', 'chip', `${Math.round(chance * 100)} % likely a copy`));
  $('facts').replaceChildren(...facts, ...chipsOf(pair));
}

/** The other pairs of the group, to step to. */
function drawStrip(pair) {
  const group = fact('group', pair);
  $('strip').hidden = group === null;
  if (group === null) return;
  const parts = [make('p', '', data.groups[group].words)];
  for (let other = 0; other < pairCount; other += 1) {
    if (pairs.group[other] !== group) continue;
    const button = make('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', other === pair);
    button.setAttribute('aria-label', `Pair with ${shown(idOf(pairs.right[other]))}`);
    const image = button.appendChild(make('img'));
    image.alt = '';
    showIn(image, pairs.right[other]);
    button.addEventListener('click', () => { const place = state.list.indexOf(other); if (place >= 0) choose(place); });
    parts.push(button);
  }
  $('strip').replaceChildren(...parts);
}

function choose(place) {
  if (place < 0 || place >= state.list.length) return;
  state.at = place;
  toPlace(place);
  drawRows();
  drawStage();
  announce(state.list[place]);
}

function announce(pair) {
  const verdict = verdicts.get(pair);
  say(`Pair ${state.at + 1} of ${state.list.length}: ${shown(idOf(pairs.left[pair]))} and ${shown(idOf(pairs.right[pair]))}, score ${fixed(pairs.score[pair])}${verdict ? `, judged ${words[verdict]}` : ''}`);
}

/** Judge the chosen pair and go on. A second time the same verdict takes it back, and stays. */
function judgeChosen(word) {
  const pair = state.list[state.at];
  if (pair === undefined) return;
  const back = word === null || verdicts.get(pair) === word;
  judge(pair, back ? null : word);
  const at = state.at;
  if (state.chosen.verdict) {
    state.list = fitting(); // the pair may leave the list, and the next one takes its place
    const stays = state.list[at] === pair;
    state.at = Math.max(0, Math.min(at + (stays && !back ? 1 : 0), state.list.length - 1));
    refresh();
  } else {
    if (rows.has(at)) fill(rows.get(at), at);
    if (!back && at + 1 < state.list.length) choose(at + 1);
    else drawStage();
  }
  say(back ? 'Verdict taken back' : `Judged ${words[word]}. ${$('live').textContent}`);
}

function mirror() {
  state.mirrored = !state.mirrored;
  drawStage();
}

function setMode(mode) {
  state.swapped = mode === 'swap' && state.mode === 'swap' && !state.swapped; // the left picture comes first
  state.mode = mode;
  drawStage();
}
