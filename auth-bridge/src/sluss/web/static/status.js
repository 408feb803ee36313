// Keep the state of a meeting fresh on its organiser's page. Not while somebody is about to press something in it.
const EVERY = 4000;

async function refresh() {
  const live = document.getElementById("live");
  const busy = document.hidden || live.contains(document.activeElement) || live.querySelector("details[open]");
  if (!busy) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) return location.reload(); // signed out meanwhile
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (fresh && fresh.innerHTML !== live.innerHTML) live.replaceWith(fresh);
    } catch {
      // The next round tries again.
    }
  }
  setTimeout(refresh, EVERY);
}

setTimeout(refresh, EVERY);
