"""Messages whose language is to be told, as it is before a ticket goes to a team; written by hand."""

import random
from collections.abc import Iterator

from evals.demo.starter.row import Row, conversation

_TEMPLATE = "In which language is this written? {}"
_SHOTS = (_TEMPLATE.format("Vielen Dank!"), "German", _TEMPLATE.format("Thanks a lot!"), "English")

MESSAGES = {
    "English": (
        "Where is my order?",
        "The app does not open any more.",
        "I would like my money back.",
        "How do I change my password?",
        "The parcel arrived broken.",
        "Can I pay by invoice?",
        "Please send me the bill again.",
        "When do you open on Monday?",
        "The blue shirt is too small.",
        "Nobody answers the phone.",
    ),
    "German": (
        "Wo ist meine Bestellung?",
        "Die App geht nicht mehr auf.",
        "Ich möchte mein Geld zurück.",
        "Wie ändere ich mein Passwort?",
        "Das Paket kam kaputt an.",
        "Kann ich auf Rechnung bezahlen?",
        "Bitte schicken Sie mir die Rechnung noch einmal.",
        "Wann öffnen Sie am Montag?",
        "Das blaue Hemd ist zu klein.",
        "Niemand geht ans Telefon.",
    ),
    "French": (
        "Où est ma commande ?",
        "L'application ne s'ouvre plus.",
        "Je voudrais être remboursé.",
        "Comment changer mon mot de passe ?",
        "Le colis est arrivé cassé.",
        "Puis-je payer sur facture ?",
        "Veuillez me renvoyer la facture.",
        "À quelle heure ouvrez-vous lundi ?",
        "La chemise bleue est trop petite.",
        "Personne ne répond au téléphone.",
    ),
    "Spanish": (
        "¿Dónde está mi pedido?",
        "La aplicación ya no se abre.",
        "Quiero que me devuelvan el dinero.",
        "¿Cómo cambio mi contraseña?",
        "El paquete llegó roto.",
        "¿Puedo pagar con factura?",
        "Por favor, envíenme la factura otra vez.",
        "¿A qué hora abren el lunes?",
        "La camisa azul es demasiado pequeña.",
        "Nadie contesta el teléfono.",
    ),
    "Italian": (
        "Dov'è il mio ordine?",
        "L'app non si apre più.",
        "Vorrei indietro i miei soldi.",
        "Come cambio la mia password?",
        "Il pacco è arrivato rotto.",
        "Posso pagare con fattura?",
        "Per favore, mandatemi di nuovo la fattura.",
        "A che ora aprite lunedì?",
        "La camicia blu è troppo piccola.",
        "Nessuno risponde al telefono.",
    ),
    "Dutch": (
        "Waar is mijn bestelling?",
        "De app gaat niet meer open.",
        "Ik wil graag mijn geld terug.",
        "Hoe verander ik mijn wachtwoord?",
        "Het pakket kwam kapot aan.",
        "Kan ik op rekening betalen?",
        "Stuur mij de factuur alstublieft nog een keer.",
        "Hoe laat gaan jullie maandag open?",
        "Het blauwe overhemd is te klein.",
        "Niemand neemt de telefoon op.",
    ),
}


def rows(rng: random.Random) -> Iterator[Row]:
    """Every message once."""
    for language, messages in MESSAGES.items():
        for message in messages:
            yield {"prompt": conversation(*_SHOTS, _TEMPLATE.format(message)), "reference": language}
