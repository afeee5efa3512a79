// What the page shows, and the few helpers that every part uses.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($('data').textContent);
const pairs = data.pairs;
const pairCount = pairs.score.length;
const scoreLow = pairs.score.reduce((low, score) => Math.min(low, score), Infinity);
const scoreHigh = pairs.score.reduce((high, score) => Math.max(high, score), -Infinity);

/** What is known of a pair, null where nothing is. */
const fact = (name, pair) => (pairs[name] ? pairs[name][pair] : null);
const idOf = (photo) => data.photos.id[photo];

/**
 * An id as a person can read it: what would not be seen, or would turn the text around it, is written as an escape. Ids of any
 * bytes come from Python with the bytes that are not UTF-8 as halves of characters, U+DC80 to U+DCFF.
 */
const unseen = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const shown = (id) => id.replace(unseen, (found) => {
  const code = found.charCodeAt(0);
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
  return `\\u${code.toString(16).padStart(4, '0')}`;
});

/** A new element with a class and a text. A text is never read as markup. */
const make = (name, css, text) => {
  const element = document.createElement(name);
  if (css) element.className = css;
  if (text !== undefined) element.textContent = text;
  return element;
};

const svg = (name, attributes, parent) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent ? parent.appendChild(element) : element;
};

const fixed = (score) => score.toFixed(3);
const grouped = (count) => count.toLocaleString('en-US');

/** Say something to people who listen to the page. */
const say = (text) => { $('live').textContent = text; };
