'use strict';
// `play` does not bubble, and is caught on its way down.
document.addEventListener('play', (event) => {
  for (const other of document.querySelectorAll('audio')) if (other !== event.target) other.pause();
}, true);
for (const card of document.querySelectorAll('.clip')) {
  const audio = card.querySelector('audio');
  const picture = card.querySelector('.picture');
  const head = card.querySelector('.head');
  const move = () => {
    head.style.left = `${(100 * audio.currentTime) / (audio.duration || 1)}%`;
    head.classList.toggle('on', audio.currentTime > 0);
    if (!audio.paused) requestAnimationFrame(move);
  };
  audio.addEventListener('play', move);
  audio.addEventListener('seeked', move);
  picture.addEventListener('click', (event) => {
    const box = picture.getBoundingClientRect();
    if (audio.duration) audio.currentTime = (audio.duration * (event.clientX - box.left)) / box.width;
    audio.play();
  });
}
