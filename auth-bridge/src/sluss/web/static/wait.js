// Show the way in when the door opens, without a press of the reload button.
const opensAt = Number(document.getElementById("wait")?.dataset.opensAt) * 1000;
const LONGEST = 24 * 3600 * 1000; // longer timers overflow
const AGAIN = 30 * 1000; // this clock may be ahead of the server's
const left = opensAt - Date.now() + 1000;

if (left < LONGEST) setTimeout(() => location.reload(), Math.max(left, AGAIN));
