// All pages, in the order of the navigation.

import { audit } from "./pages/audit.js";
import { channels } from "./pages/channels.js";
import { chat } from "./pages/chat.js";
import { deliveries } from "./pages/deliveries.js";
import { delivery } from "./pages/delivery.js";
import { lanes } from "./pages/lanes.js";
import { live } from "./pages/live.js";
import { overview } from "./pages/overview.js";
import { pauses } from "./pages/pauses.js";
import { questions } from "./pages/questions.js";
import { session } from "./pages/session.js";
import { sessions } from "./pages/sessions.js";
import { task } from "./pages/task.js";
import { tasks } from "./pages/tasks.js";
import { tenants } from "./pages/tenants.js";

export const PAGES = [
  { name: "overview", title: "Overview", nav: true, render: overview },
  { name: "sessions", title: "Sessions", nav: true, render: sessions },
  { name: "session", title: "Session", under: "sessions", render: session },
  { name: "chat", title: "Chat", under: "sessions", render: chat },
  { name: "deliveries", title: "Deliveries", nav: true, render: deliveries },
  { name: "delivery", title: "Delivery", under: "deliveries", render: delivery },
  { name: "lanes", title: "Lanes", nav: true, render: lanes },
  { name: "channels", title: "Channels", nav: true, render: channels },
  { name: "pauses", title: "Pauses and limits", nav: true, render: pauses },
  { name: "tasks", title: "Tasks", nav: true, render: tasks },
  { name: "task", title: "Task", under: "tasks", render: task },
  { name: "questions", title: "Questions", nav: true, render: questions },
  { name: "tenants", title: "Tenants", nav: true, render: tenants },
  { name: "live", title: "Live", nav: true, render: live },
  { name: "audit", title: "Audit", nav: true, scope: "admin", render: audit },
];
