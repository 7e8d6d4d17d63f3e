"""Messages to a shop's support, each to be sent to one of six queues; written by hand, one clear queue each."""

import random
from collections.abc import Iterator

from evals.starter.row import Row

_ASKED = (
    "Sort a customer's message into one category:\n"
    "billing: charges, invoices, payment\n"
    "delivery: where an order is, delays, addresses\n"
    "returns: sending goods back, refunds, exchanges\n"
    "technical: a product or the app does not work\n"
    "account: login, password, profile, deleting data\n"
    "suggestion: ideas for new features\n"
    "Reply with the category only.\n\n"
    "Message: I cannot pay with my credit card.\nCategory: billing\n"
    "Message: The screen of the tablet stays black.\nCategory: technical\n"
    "Message: {}\nCategory:"
)

MESSAGES = {
    "billing": (
        "I was charged twice for order 8812. Please check my card statement.",
        "Why does my invoice show 19% tax when our company is exempt?",
        "My card was declined although there is enough money on it.",
        "Can I get a receipt with our VAT number for last month's payment?",
        "There is a fee of 4.99 on my bill that nobody ever mentioned.",
        "hi, the voucher code was accepted but the full amount came off my card",
        "Do you take PayPal or only credit cards?",
        "I have paid the invoice by bank transfer, yet I got a reminder to pay it.",
        "The monthly price went up from 9 to 12 euros. Since when, and why?",
        "Our accounting needs all invoices of 2024 as PDF files.",
        "You took 89.90 instead of the 59.90 that your website promised.",
        "Can I pay in three instalments?",
        "Please change the billing address on invoice 2025-118 to our new office.",
        "The direct debit bounced because I changed banks. How do I pay now?",
        "what is this charge of 1 dollar on my credit card statement from you??",
        "I'd like to switch from monthly to yearly payment. What will it cost?",
        "The invoice lists two licences, but we ordered and use just one.",
    ),
    "delivery": (
        "My parcel has been stuck in the same depot for six days.",
        "Where is my order? It was supposed to be here on Tuesday.",
        "The tracking number that you sent me is unknown to the carrier.",
        "Can you leave the package with my neighbour at number 14?",
        "I typed the wrong street. Please send order 5521 to Elm Road 3 instead.",
        "It says delivered, but there is nothing at my door.",
        "How long does shipping to Norway take?",
        "hello?? ordered express two days ago and it hasn't even shipped",
        "Only one of the two boxes has arrived so far. When does the other come?",
        "I'm away next week; could you ship it a week later?",
        "The courier rang once and drove off before I got to the door.",
        "Do you deliver to parcel lockers?",
        "The estimated arrival keeps moving back by a day, every day.",
        "Can the sofa be carried up to the third floor by the driver?",
        "My package went to a pickup shop 30 km from my home. Why?",
        "Is it possible to get the order before Saturday? It is a birthday present.",
        "The driver left the box in the rain, in front of the wrong house.",
    ),
    "returns": (
        "The shoes are too small. I would like to swap them for size 43.",
        "How do I send the lamp back? I have changed my mind.",
        "I returned the coat three weeks ago and still wait for my refund.",
        "Please send me a return label for the blue sweater.",
        "Can I give back an item that I bought in the sale?",
        "The vase came in pieces; I want my money back.",
        "How many days do I have to return something?",
        "I got a green case but had ordered the red one. Can you exchange it?",
        "Do I have to pay the postage when I send the jeans back?",
        "my wife doesnt like the colour of the curtains, can we bring them back to the store",
        "I have lost the original box. Will you still take the blender back?",
        "You refunded only half of what I sent back.",
        "The dress isn't like the picture at all. I'm sending it back.",
        "I'd rather have store credit than money for the boots I returned.",
        "Has my return arrived at your warehouse yet?",
        "Received two kettles, ordered one. How do I send the extra one back?",
    ),
    "technical": (
        "The app crashes as soon as I open the camera.",
        "My headphones no longer connect over Bluetooth.",
        "Since the last update the screen flickers all the time.",
        "The printer says paper jam, but there is no paper in it.",
        "I get error code E42 when I start the washing machine.",
        "The export button does nothing in Firefox, while in Chrome it works.",
        "My watch shows the wrong time after every restart.",
        "The video freezes after ten seconds, the sound goes on.",
        "How do I reset the router? The red light keeps blinking.",
        "the vacuum robot just spins in circles since yesterday",
        "The thermostat loses its Wi-Fi connection every night.",
        "Uploading a photo fails with 'unknown error 500'.",
        "The battery is empty after one hour, although it is brand new.",
        "Search finds nothing on the phone, not even products on the front page.",
        "After installing version 3.2 the scanner is not recognised any more.",
        "The left speaker makes a crackling noise at any volume.",
        "Your Android app drains my phone and gets really hot.",
    ),
    "account": (
        "I forgot my password and the reset mail never arrives.",
        "Please delete my account and everything that you store about me.",
        "How can I change the email address I log in with?",
        "I am locked out after three wrong attempts to log in.",
        "Someone else seems to have logged in as me last night.",
        "I married and need to change my surname in my profile.",
        "Can two people of our team share one login?",
        "The code for two-factor login goes to my old phone number.",
        "Please merge my two accounts into one.",
        "How do I sign up as a business customer?",
        "i want to unsubscribe my profile from everything, remove me pls",
        "My username shows my full name to everyone. How do I hide it?",
        "I never registered with you, yet I get welcome mails in my name.",
        "Where can I download all personal data that you hold on me?",
        "It says my email is already registered, but I have no profile.",
        "Our former colleague still has access; please remove her user.",
    ),
    "suggestion": (
        "A dark mode would be great for reading at night.",
        "It would be nice if the app could remind me to water the plants.",
        "Please add Portuguese as a language.",
        "Have you thought about a family plan?",
        "I wish I could sort the wish list by price.",
        "Could you offer a smaller pack size? Ten is too many for one person.",
        "An export to Excel would save our team hours.",
        "Why not let customers rate the recipes?",
        "Idea: show the calories beside each dish.",
        "I'd love a widget with today's tasks for the home screen.",
        "You should make the same bag in yellow!",
        "It would help to have keyboard shortcuts in the editor.",
        "Please consider an integration with Google Calendar.",
        "would be cool to have a map of all your stores in the app",
        "Feature wish: let us name our saved filters.",
        "My proposal: a weekly summary by mail instead of daily ones.",
        "Maybe a future version could read the articles aloud?",
    ),
}


def rows(rng: random.Random) -> Iterator[Row]:
    """Every message once."""
    for label, messages in MESSAGES.items():
        for message in messages:
            yield {"prompt": _ASKED.format(message), "reference": label}
