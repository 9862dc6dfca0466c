// Sets the theme that the viewer chose, before anything is drawn. Without a choice, the page follows the system.
{
  let choice = 'auto';
  try {
    choice = localStorage.getItem('theme') ?? 'auto';
  } catch {
    // Storage may be forbidden. The choice then lasts until the page is closed.
  }
  document.documentElement.dataset.theme = choice;
}
