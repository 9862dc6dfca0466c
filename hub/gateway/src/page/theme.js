// Before anything is drawn: the colours that the viewer chose here. Without a choice, those of their system.
{
  let choice = 'auto';
  try {
    choice = localStorage.getItem('theme') ?? 'auto';
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  document.documentElement.dataset.theme = choice;
}
