if (pairCount) {
  $('work').hidden = false;
  $('verdict-bar').hidden = false;
  readStore();
  makeFilters();
  makeList();
  makeRange();
  makeKeys();
  makeCurve();
  makeStops();
  showTally();
  refresh();
} else {
  notice('There are no pairs to show.');
}
