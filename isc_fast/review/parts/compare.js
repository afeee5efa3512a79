// Two pictures in one: one over the other, or what differs. Where the pair's pixels were looked at, placing.js does it; else the
// left one is turned as the view that matched says.
const turns = { 'turned-90': 90, 'turned-180': 180, 'turned-270': 270 };
let drawing = 0;

function loaded(photo) {
  const image = new Image();
  image.src = addressOf(photo);
  return image.decode().then(() => image);
}

/** Draw both pictures of a pair into a canvas of the right one's shape. */
async function drawBoth(canvas, pair, mode, share) {
  drawing += 1;
  const mine = drawing;
  const [one, other] = await Promise.all([loaded(pairs.left[pair]), loaded(pairs.right[pair])]);
  if (mine !== drawing) return; // another one was asked for meanwhile
  if (fact('homography', pair)) {
    drawPlaced(canvas, pair, one, other, mode, share);
    return;
  }
  const { naturalWidth: width, naturalHeight: height } = other;
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext('2d');
  pen.drawImage(other, 0, 0);
  const view = (fact('view', pair) ?? '').split(' / ')[0];
  const degrees = turns[view.replace('mirrored-', '')] ?? 0;
  const across = degrees % 180 ? [height, width] : [width, height];
  if (mode === 'difference') pen.globalCompositeOperation = 'difference';
  else pen.globalAlpha = share;
  pen.translate(width / 2, height / 2);
  pen.rotate((degrees * Math.PI) / 180);
  if (view.startsWith('mirrored') !== state.mirrored) pen.scale(-1, 1); // which comes before it is turned
  pen.drawImage(one, -across[0] / 2, -across[1] / 2, ...across);
}
