// Photos that match many others: each with its picture, and a way to its pairs.
function makeStops() {
  for (const stop of data.stops) {
    const item = make('li');
    const frame = item.appendChild(make('span', 'stop-picture'));
    if (stop.photo !== null && hasPicture(stop.photo)) {
      const image = frame.appendChild(make('img'));
      image.alt = '';
      showIn(image, stop.photo);
    }
    const text = item.appendChild(make('span', 'stop-words'));
    text.append(make('bdi', '', shown(stop.id)), make('span', '', stop.why));
    if (stop.photo !== null) {
      const button = item.appendChild(make('button', '', 'Show its pairs'));
      button.type = 'button';
      button.setAttribute('aria-label', `Show the pairs of ${shown(stop.id)}`);
      button.addEventListener('click', () => { findPairsOf(stop.id); });
    }
    $('stops').append(item);
  }
}

function findPairsOf(id) {
  showAll();
  $('search').value = id;
  $('search').dispatchEvent(new Event('input'));
  $('work').scrollIntoView();
  $('list').focus();
}
