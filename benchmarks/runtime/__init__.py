"""How long steps, scores, adaptations and fits take, beside what their arithmetic alone takes."""
