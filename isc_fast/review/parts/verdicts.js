// What the reader says of pairs. It is kept in this browser under the digest of the page's pairs.
const words = { right: 'right', wrong: 'wrong', undecided: 'undecided' };
const storeKey = `isc-fast-verdicts-${data.digest}`;
const verdicts = new Map();

const isWord = (word) => Object.hasOwn(words, word);

function readStore() {
  for (let pair = 0; pair < pairCount; pair += 1) {
    const given = fact('verdict', pair);
    if (given) verdicts.set(pair, given);
  }
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(storeKey));
  } catch {
    notice('This browser keeps nothing for this page: save your verdicts to a file before you close it.');
  }
  if (!Array.isArray(kept)) return;
  for (const [pair, word] of kept) {
    if (Number.isInteger(pair) && pair >= 0 && pair < pairCount) {
      if (isWord(word)) verdicts.set(pair, word);
      else verdicts.delete(pair);
    }
  }
}

function notice(text) {
  $('notice').textContent = text;
  $('notice').hidden = false;
  say(text);
}

/** Keep all verdicts; those that came with the page and were taken back are kept as such. */
function keep() {
  const kept = [...verdicts];
  for (let pair = 0; pair < pairCount; pair += 1) {
    if (fact('verdict', pair) && !verdicts.has(pair)) kept.push([pair, null]);
  }
  try {
    localStorage.setItem(storeKey, JSON.stringify(kept));
  } catch {
    notice('This browser cannot keep verdicts: save them to a file before you close the page.');
  }
}

/** Give a pair a verdict, or take it back with null. */
function judge(pair, word) {
  if (word === null) verdicts.delete(pair);
  else verdicts.set(pair, word);
  keep();
  showTally();
}

function showTally() {
  const counts = { right: 0, wrong: 0, undecided: 0 };
  for (const word of verdicts.values()) counts[word] += 1;
  $('tally').textContent = verdicts.size
    ? `${grouped(verdicts.size)} of ${grouped(pairCount)} judged: ${counts.right} right, ${counts.wrong} wrong, ${counts.undecided} undecided`
    : 'No pair is judged yet. Verdicts stay in this browser until you save them.';
}
