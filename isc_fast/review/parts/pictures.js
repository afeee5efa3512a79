// Pictures are decoded when they are seen: the page holds them as one long text, of which each is a piece in base64.
const pictureText = $('pictures').textContent;
const mostPictures = 500; // addresses that are kept
const addresses = new Map();

const hasPicture = (photo) => data.photos.size[photo] > 0;

/** The address of a photo's picture. */
function addressOf(photo) {
  let address = addresses.get(photo);
  if (address) {
    addresses.delete(photo);
  } else {
    const at = data.photos.at[photo];
    const bytes = Uint8Array.from(atob(pictureText.slice(at, at + data.photos.size[photo])), (c) => c.charCodeAt(0));
    address = URL.createObjectURL(new Blob([bytes], { type: 'image/jpeg' }));
  }
  addresses.set(photo, address); // the one that was used last stands last
  if (addresses.size > mostPictures) {
    const [oldest, its] = addresses.entries().next().value;
    addresses.delete(oldest);
    URL.revokeObjectURL(its); // an image that shows it keeps it
  }
  return address;
}

/** Show a photo in an image element, or nothing where there is no picture. */
function showIn(image, photo) {
  if (image.photo === photo) return;
  image.photo = photo;
  if (hasPicture(photo)) image.src = addressOf(photo);
  else image.removeAttribute('src');
}
